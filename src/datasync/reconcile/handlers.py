"""A kind of the application as the planner and the reconciler call it."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Union, get_args, get_origin

from datasync.errors import UsageError
from datasync.options import check_seconds
from datasync.reconcile.kind import Found, Kind
from datasync.reconcile.needs import Needs
from datasync.reconcile.operations import Seen, Verb
from datasync.reconcile.told import check_found, check_handle

__all__ = ["Handlers"]

_RULES = ("validate", "needs", "derive", "equal", "needs_recreate", "is_permanent")
_MAY_BE_NONE = (types.NoneType, types.UnionType, Union, object, Any)


class Handlers:
    """The rules of one kind, and the way to its methods.

    kind: an object with the methods of `Kind`, of which `create` and `delete` must be there.
    is_derived: whether its objects are parts of others alone.

    Raises `UsageError` for what is no kind.
    """

    def __init__(self, prefix: str, kind: Any, *, is_derived: bool = False) -> None:
        if isinstance(kind, type):
            raise UsageError(f"{kind.__name__} is a class; give an object of it")
        self.prefix = prefix
        self.name = type(kind).__name__
        self.is_derived = is_derived
        self._kind = kind
        for name in ("create", "delete"):
            if not self._has(name):
                raise UsageError(f"{self.name} has no method {name!r}; a kind needs it")
        self.limit: int = getattr(kind, "limit", Kind.limit)
        self.timeout: float = getattr(kind, "timeout", Kind.timeout)
        if not isinstance(self.limit, int) or self.limit < 1:
            raise UsageError(f"limit of {self.name} must be an integer >= 1, got {self.limit!r}")
        check_seconds(f"timeout of {self.name}", self.timeout)
        for name in _RULES:
            if inspect.iscoroutinefunction(getattr(kind, name, None)):
                raise UsageError(f"{name!r} of {self.name} is async; only what does I/O may be")
        for name in (*_RULES, *(verb.value for verb in Verb)):
            if inspect.isasyncgenfunction(getattr(kind, name, None)):
                raise UsageError(f"{name!r} of {self.name} is an async generator; let it return")
        self._cancellable = bool(getattr(kind, "cancellable", Kind.cancellable))
        self._promised = _handles_of(type(kind))
        self.can_retrieve = self._has("retrieve")
        self.assumes_applied = self._assumes_applied()
        self._can_update = self._has("update")
        self._rules: Any = kind if isinstance(kind, Kind) else _Defaults(kind)

    def _has(self, name: str) -> bool:
        method = getattr(type(self._kind), name, None)
        return callable(method) and method is not getattr(Kind, name)

    def _assumes_applied(self) -> bool:
        assume = getattr(self._kind, "assume", Kind.assume)
        if assume not in ("absent", "applied"):
            raise UsageError(f"assume of {self.name} must be 'absent' or 'applied', got {assume!r}")
        if assume == "absent":
            return False
        if self.can_retrieve:
            raise UsageError(f"{self.name} has 'retrieve'; it does not have to assume anything")
        if self._promised is not None:
            raise UsageError(
                f"{self.name} cannot assume what it has applied: nobody would know the handles"
                f" ({self._promised.__name__}); give it a 'retrieve', or handles that may be None"
            )
        return True

    # -- rules -------------------------------------------------------------------------------------

    def validate(self, key: str, value: Any) -> None:
        self._rules.validate(key, value)

    def needs(self, key: str, value: Any) -> Iterable[Needs]:
        needs: Iterable[Needs] = self._rules.needs(key, value)
        return needs

    def derive(self, key: str, value: Any) -> Mapping[str, Any]:
        parts: Mapping[str, Any] = self._rules.derive(key, value)
        return parts

    def equal(self, key: str, old: Any, new: Any) -> bool:
        return bool(self._rules.equal(key, old, new))

    def needs_recreate(self, key: str, old: Any, new: Any) -> bool:
        return not self._can_update or bool(self._rules.needs_recreate(key, old, new))

    def is_permanent(self, error: BaseException) -> bool:
        """Whether not to try again; an error in saying so says no."""
        try:
            return bool(self._rules.is_permanent(error))
        except Exception:
            return False

    # -- operations --------------------------------------------------------------------------------

    async def create(self, key: str, value: Any) -> Any:
        handle = await self._call("create", key, value)
        check_handle(self.name, self._promised, handle)
        return handle

    async def update(self, key: str, old: Any, new: Any, handle: Any) -> Any:
        changed = await self._call("update", key, old, new, handle)
        return handle if changed is None else changed

    async def delete(self, key: str, value: Any, handle: Any) -> None:
        await self._call("delete", key, value, handle)

    async def retrieve(
        self, expected: Mapping[str, Any], keys: Collection[str] | None
    ) -> dict[str, Seen]:
        """What is there, by key. Raises `TypeError` and `ValueError` for what cannot be."""
        found = check_found(
            self.name, self.prefix, keys, await self._call("retrieve", expected, keys)
        )
        return {key: self._seen(one) for key, one in found.items()}

    def seen(self, found: object) -> Seen:
        """What somebody has found. Raises `TypeError`."""
        if not isinstance(found, Found):
            raise TypeError(f"{found!r} is not a Found")
        return self._seen(found)

    def _seen(self, found: Found[Any, Any]) -> Seen:
        ours = found.ours
        if ours is None:
            ours = bool(getattr(self._kind, "delete_unknown", False))
        return Seen(found.value, found.handle, ours)

    def can_cancel(self, verb: Verb) -> bool:
        """Whether such an operation may be cancelled for a newer value; a thread cannot be."""
        method = getattr(self._kind, verb.value)
        return self._cancellable and inspect.iscoroutinefunction(method)

    async def _call(self, name: str, *args: Any) -> Any:
        method = getattr(self._kind, name)
        if inspect.iscoroutinefunction(method):
            result = method(*args)
        else:
            result = await _in_thread(f"datasync {self.name}.{name}", method, args)
            if not inspect.isawaitable(result):
                return result
        try:
            async with asyncio.timeout(self.timeout) as scope:
                return await result
        except TimeoutError:
            if not scope.expired():
                raise
            raise TimeoutError(f"no answer within {self.timeout:g} s") from None


class _Defaults(Kind[Any, Any]):
    """The rules of a kind that has no base: its own, and those of the base for the rest."""

    def __init__(self, kind: Any) -> None:
        for name in _RULES:
            if hasattr(kind, name):
                setattr(self, name, getattr(kind, name))


def _handles_of(kind: type[Any]) -> type[Any] | None:
    """The type of the handles that a subclass of `Kind[V, H]` promises; None where they may be
    missing, or it does not say."""
    for base in getattr(kind, "__orig_bases__", ()):
        if get_origin(base) is Kind:
            handles = get_args(base)[1]
            plain = get_origin(handles) or handles
            return plain if isinstance(plain, type) and plain not in _MAY_BE_NONE else None
    return None


async def _in_thread(name: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call it in a thread of its own, which does not keep the process alive. It cannot be
    cancelled: to cancel this leaves it alone."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: Exception | None) -> None:
        if ended.done():
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(result)

    def work() -> None:
        result: Any = None
        failed: Exception | None = None
        try:
            result = context.run(function, *args)
            if isinstance(result, Iterator):  # a generator has not done anything yet
                result = context.run(list, result)
        except Exception as error:
            # no future takes a StopIteration
            failed = RuntimeError(repr(error)) if isinstance(error, StopIteration) else error
        except BaseException as error:  # it ends the thread, and nothing else
            failed = RuntimeError(repr(error))
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await ended
