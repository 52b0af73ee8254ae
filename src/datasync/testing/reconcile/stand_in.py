"""What stands before a kind under test: it writes down each operation, fails where it is told to,
and keeps what is there."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec

from datasync.errors import UsageError
from datasync.reconcile import Found, Kind, Needs
from datasync.testing.reconcile.story import Relations, Story

__all__ = ["StandIn", "Step", "System", "stand_in"]

_OPERATIONS = ("create", "update", "delete")


class Step(msgspec.Struct, eq=False):
    """One operation that was started.

    old, new: the value before and after; None where there is none.
    handle: what it was given to work on; None for a create.
    error: what it failed with; None where it succeeded.
    ended: whether it has; else it hangs.
    """

    verb: str
    key: str
    old: Any = None
    new: Any = None
    handle: Any = None
    error: BaseException | None = None
    ended: bool = False

    def __str__(self) -> str:
        text = f"{self.verb} {self.key}"
        if not self.ended:
            return f"{text} hangs"
        return text if self.error is None else f"{text} failed"


class _Fault(msgspec.Struct):
    """What goes wrong the next times that an operation is started; without an error it hangs."""

    times: int
    error: Exception | None
    done: bool


class System:
    """What is there, what was done to it, and what is to go wrong."""

    def __init__(self) -> None:
        self.there: dict[str, Found[Any, Any]] = {}
        self.steps: list[Step] = []
        self.kinds: list[StandIn] = []
        self.story = Story(lambda key, value: self.kind_of(key).relations(key, value))
        self._faults: dict[str, _Fault] = {}
        self._handles = 0

    def kind_of(self, key: str) -> StandIn:
        """Raises `UsageError` where there is none."""
        fitting = [kind for kind in self.kinds if key.startswith(kind.prefix)]
        if not fitting:
            raise UsageError(f"no kind has a prefix of {key!r}")
        return max(fitting, key=lambda kind: len(kind.prefix))

    def new_handle(self) -> int:
        """Another one each time."""
        self._handles += 1
        return self._handles

    def change(self, key: str, found: Found[Any, Any] | None) -> set[str]:
        """It is there like that, None: no more; and so is nothing that goes with what has gone.
        Returns the keys of all that has changed."""
        changed = {key}
        held = {one for one in self.there if self._is_held(one)}
        if found is None:
            self.there.pop(key, None)
        else:
            self.there[key] = found
        while gone := [one for one in self.there if one in held and not self._is_held(one)]:
            for one in gone:
                del self.there[one]
            changed.update(gone)
        return changed

    def heard(self, keys: Iterable[str]) -> None:
        """The reconciler can know what is there of these."""
        for key in keys:
            self.story.seen(key, self.there.get(key))

    def forget(self) -> None:
        """A new process begins, which knows of some kinds no more than what they assume."""
        for key in self.story.known:
            kind = self.kind_of(key)
            if not kind.can_retrieve and getattr(kind, "assume", "absent") == "absent":
                self.story.seen(key, None)
        self.story.forget_parents()

    def _is_held(self, key: str) -> bool:
        needs = self.kind_of(key).needs(key, self.there[key].value)
        return all(self._is_met(need) for need in needs if need.goes_with)

    def _is_met(self, need: Needs) -> bool:
        keys = [key for key in need.keys if key in self.there]
        if need.prefix is not None:
            keys = [key for key in self.there if key.startswith(need.prefix)]
        return any(need.satisfies is None or need.satisfies(self.there[key].value) for key in keys)

    def inject(self, what: str, times: int, error: Exception | None, *, done: bool) -> None:
        """Let that operation go wrong. Raises `UsageError` for what names none."""
        verb, _, key = what.partition(" ")
        if verb not in _OPERATIONS:
            raise UsageError(f"name an operation as in 'create config/a', got {what!r}")
        if times < 1:
            raise UsageError(f"times must be an integer >= 1, got {times!r}")
        self.kind_of(key)
        self._faults[what] = _Fault(times, error, done)

    def fault_of(self, step: Step) -> _Fault | None:
        """What goes wrong with it this time."""
        what = f"{step.verb} {step.key}"
        fault = self._faults.get(what)
        if fault is not None:
            fault.times -= 1
            if not fault.times:
                del self._faults[what]
        return fault


class StandIn:
    """The rules of a kind, with operations that are written down.

    carry_out: whether its own methods are called as well; else the system is a dict.
    """

    def __init__(self, kind: Any, prefix: str, system: System, *, carry_out: bool) -> None:
        self.kind = kind
        self.prefix = prefix
        self.system = system
        self.carry_out = carry_out

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kind, name)

    def needs(self, key: str, value: Any) -> Iterable[Needs]:
        """See `Kind`."""
        needs: Iterable[Needs] = self.kind.needs(key, value) if hasattr(self.kind, "needs") else ()
        return needs

    @property
    def can_retrieve(self) -> bool:
        """Whether it can read what is there."""
        return "retrieve" in type(self).__dict__

    def relations(self, key: str, value: Any) -> Relations:
        """Of that value; none where its kind says that it is invalid."""
        try:
            return tuple(self.needs(key, value)), frozenset(self.derived(key, value))
        except Exception:
            return (), frozenset()

    def derived(self, key: str, value: Any) -> Mapping[str, Any]:
        """The parts of that value."""
        parts: Mapping[str, Any] = (
            self.kind.derive(key, value) if hasattr(self.kind, "derive") else {}
        )
        return parts

    async def create(self, key: str, value: Any) -> Any:
        """See `Kind`."""
        return await self._perform(Step("create", key, None, value), (key, value))

    async def delete(self, key: str, value: Any, handle: Any) -> None:
        """See `Kind`."""
        await self._perform(Step("delete", key, value, None, handle), (key, value, handle))

    async def _perform(self, step: Step, arguments: tuple[Any, ...]) -> Any:
        self.system.steps.append(step)
        number = self.system.story.began(
            step.verb, step.key, step.old, step.new, step.handle, self.prefix,
            getattr(self.kind, "limit", Kind.limit), is_blind=not self.can_retrieve,
        )  # fmt: skip
        fault = self.system.fault_of(step)
        handle = None
        try:
            if fault is None or fault.done:
                handle = await self._do(step, arguments)
            if fault is not None:
                await self._go_wrong(step, fault)
        except (Exception, asyncio.CancelledError) as error:
            step.error = error
            raise
        finally:
            step.ended = True
            self.system.story.ended(number)
        return handle

    async def _do(self, step: Step, arguments: tuple[Any, ...]) -> Any:
        system, goes = self.system, step.verb == "delete"
        if self.carry_out:
            handle = await _answer(getattr(self.kind, step.verb)(*arguments))
            known = handle if step.verb == "create" or handle is not None else step.handle
            system.story.seen(step.key, None if goes else Found(step.key, step.new, known))
            return handle
        handle = system.new_handle() if step.verb == "create" else step.handle
        system.heard(
            system.change(step.key, None if goes else Found(step.key, step.new, handle, ours=True))
        )
        return None if goes else handle

    async def _go_wrong(self, step: Step, fault: _Fault) -> None:
        if fault.error is not None:
            raise fault.error
        if not inspect.iscoroutinefunction(getattr(self.kind, step.verb)):
            # nobody cuts a thread off: to be running for ever is all that can be shown of it
            raise UsageError(
                f"{step.verb}() of {type(self.kind).__name__} is plain; only what is async runs "
                "into its time limit"
            )
        await asyncio.get_running_loop().create_future()


async def _update(self: StandIn, key: str, old: Any, new: Any, handle: Any) -> Any:
    return await self._perform(Step("update", key, old, new, handle), (key, old, new, handle))


async def _retrieve(
    self: StandIn, expected: Mapping[str, Any], keys: Collection[str] | None
) -> Iterable[Found[Any, Any]]:
    system = self.system
    if self.carry_out:
        found: list[Found[Any, Any]] = list(await _answer(self.kind.retrieve(expected, keys)))
    else:
        found = [one for key, one in system.there.items() if system.kind_of(key) is self]
    there = {one.key: one for one in found}
    known = [key for key in system.story.known if system.kind_of(key) is self]
    for key in dict.fromkeys([*known, *there]):
        if keys is None or key in keys:
            system.story.seen(key, there.get(key))
    return found


async def _answer(told: Any) -> Any:
    return await told if isinstance(told, Awaitable) else told


_OPTIONAL: dict[str, Callable[..., Any]] = {"update": _update, "retrieve": _retrieve}


def stand_in(kind: Any, prefix: str, system: System, *, carry_out: bool) -> StandIn:
    """Something that has the methods that `kind` has, no more and no less, and its name."""
    body: dict[str, Any] = {
        name: method
        for name, method in _OPTIONAL.items()
        if callable(own := getattr(type(kind), name, None)) and own is not getattr(Kind, name)
    }
    # what it promises of its handles is held against what it gives
    body["__orig_bases__"] = getattr(type(kind), "__orig_bases__", ())
    made: StandIn = type(type(kind).__name__, (StandIn,), body)(
        kind, prefix, system, carry_out=carry_out
    )
    return made
