"""A kind of the application as the planner and the reconciler call it."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from datasync.errors import UsageError
from datasync.reconcile.kind import Found, Kind
from datasync.reconcile.needs import Needs
from datasync.reconcile.operations import Seen
from datasync.reconcile.told import check_found

__all__ = ["Handlers"]


class Handlers:
    """The rules of one kind, and the way to its methods.

    kind: an object with the methods of `Kind`, of which `create` and `delete` must be there.

    Raises `UsageError` for what is no kind.
    """

    def __init__(self, prefix: str, kind: Any) -> None:
        self.prefix = prefix
        self.name = type(kind).__name__
        self._kind = kind
        for name in ("create", "delete"):
            if not self._has(name):
                raise UsageError(f"{self.name} has no method {name!r}; a kind needs it")
        self.limit: int = getattr(kind, "limit", Kind.limit)
        self.timeout: float = getattr(kind, "timeout", Kind.timeout)
        if not isinstance(self.limit, int) or self.limit < 1:
            raise UsageError(f"limit of {self.name} must be an integer >= 1, got {self.limit!r}")
        self.can_retrieve = self._has("retrieve")
        self._can_update = self._has("update")
        self._rules: Any = kind if isinstance(kind, Kind) else _Defaults(kind)

    def _has(self, name: str) -> bool:
        method = getattr(type(self._kind), name, None)
        return callable(method) and method is not getattr(Kind, name)

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
        return await self._call("create", key, value)

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

    async def _call(self, name: str, *args: Any) -> Any:
        method = getattr(self._kind, name)
        if not inspect.iscoroutinefunction(method):
            return await _in_thread(f"datasync {self.name}.{name}", method, args)
        try:
            async with asyncio.timeout(self.timeout) as scope:
                return await method(*args)
        except TimeoutError:
            if not scope.expired():
                raise
            raise TimeoutError(f"no answer within {self.timeout:g} s") from None


class _Defaults(Kind[Any, Any]):
    """The rules of a kind that has no base: its own, and those of the base for the rest."""

    def __init__(self, kind: Any) -> None:
        for name in ("validate", "needs", "derive", "equal", "needs_recreate", "is_permanent"):
            if hasattr(kind, name):
                setattr(self, name, getattr(kind, name))


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
        except Exception as error:
            # no future takes a StopIteration
            failed = RuntimeError(repr(error)) if isinstance(error, StopIteration) else error
        except BaseException as error:  # it ends the thread, and nothing else
            failed = RuntimeError(repr(error))
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await ended
