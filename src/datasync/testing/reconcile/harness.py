"""A reconciler for unit tests of kinds: it runs at once, on a virtual clock, without a store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from datasync import Backoff, DataSync, UsageError
from datasync.reconcile import Found, Needs, Reconciler, State
from datasync.reconcile.handlers import Handlers
from datasync.testing.reconcile.checker import Checker, Violation
from datasync.testing.reconcile.stand_in import StandIn, Step, System, stand_in
from datasync.testing.reconcile.trace import Object, Record
from datasync.testing.simulation.loop import SimLoop

__all__ = ["Harness"]

_MOMENT = 0.001
"""Virtual seconds after which all is done that takes no time."""


class Harness:
    """A `Reconciler` whose kinds are under test: objects in, operations out, in order.

    Use it as `with Harness() as harness:` in a plain test, add kinds, and say what is stored. Each
    call returns the operations that it led to once nothing happens any more without time passing,
    such as `["create config/interface/eth0"]`; one that failed ends in `failed`, and one that
    hangs, or takes its time, in `hangs`.

    The rules of the kinds are their own (`needs`, `derive`, `validate` and so on). Their operations
    are not carried out: the harness keeps what would be there, without what goes with something
    that has gone. Time is virtual and passes with `advance` alone; the waits between tries are 0.1,
    0.2, 0.4, ... up to 10 seconds.
    """

    def __init__(self) -> None:
        self._system = System()
        self._kinds: list[tuple[StandIn, type[Any], bool]] = []
        self._sync = DataSync("memory://")
        self._rec = self._made()
        self._begun = False
        self._runner: asyncio.Runner | None = None

    def _made(self) -> Reconciler:
        rec = Reconciler(self._sync, retry=Backoff(jitter=0.0))
        for kind, type_, derived in self._kinds:
            rec.add(kind.prefix, kind, type=type_, derived=derived)
        return rec

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner(loop_factory=lambda: SimLoop(float("inf")))
        self._usable().run(self._sync.start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._usable() as runner:
            runner.run(self._rec.aclose())
            runner.run(self._sync.aclose())
        self._runner = None

    def _usable(self) -> asyncio.Runner:
        if self._runner is None:
            raise UsageError("the harness is not entered; use `with Harness() as harness:`")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._runner
        raise UsageError("the harness has a loop of its own; use it in a test that is not async")

    # -- kinds -------------------------------------------------------------------------------------

    def add(
        self,
        prefix: str,
        kind: Any,
        *,
        type: type[Any] = bytes,
        derived: bool = False,
        carry_out: bool = False,
    ) -> None:
        """Register a kind, as `Reconciler.add` does.

        carry_out: whether its own `create`, `update`, `delete` and `retrieve` are called, plain
            ones in the loop; default False, the harness stands in for the system.

        Raises what `Reconciler.add` does.
        """
        Handlers(prefix, kind)  # raises for what is no kind
        made = stand_in(kind, prefix, self._system, carry_out=carry_out)
        self._rec.add(prefix, made, type=type, derived=derived)
        self._system.kinds.append(made)
        self._kinds.append((made, type, derived))

    def _check_kept(self, key: str) -> None:
        if self._system.kind_of(key).carry_out:
            raise UsageError(f"{key!r} is carried out by its kind, which knows what is there")

    # -- what is stored ----------------------------------------------------------------------------

    def put(self, key: str, value: Any) -> list[str]:
        """Store it; what is done then, in order. The first that is stored is there when the
        reconciler starts."""
        return self.apply({key: value})

    def delete(self, key: str) -> list[str]:
        """Take it out of the store; what is done then, in order."""
        return self.apply({}, [key])

    def apply(self, put: Mapping[str, Any], delete: Iterable[str] = ()) -> list[str]:
        """Store, and take out, all of this in one transaction; what is done then, in order."""
        return self._steps_of(self._commit, put, delete)

    async def _commit(self, put: Mapping[str, Any], delete: Iterable[str]) -> None:
        txn = self._sync.txn()
        for key, value in put.items():
            txn.put(key, value)
        for key in delete:
            txn.delete(key)
        await txn.commit()
        if not self._begun:
            await self._begin()

    async def _begin(self) -> None:
        await self._rec.start()
        self._begun = True

    # -- what is there -----------------------------------------------------------------------------

    @property
    def there(self) -> dict[str, Any]:
        """The values of what is there, by key, but for kinds that are carried out."""
        return {key: found.value for key, found in self._system.there.items()}

    def find(self, key: str, value: Any, *, ours: bool | None = True) -> None:
        """Let it be there like that, as if it had been made or changed by hand. Nobody notices
        before `refresh`, `notify` or the start.

        ours: see `Found`; default True.

        Raises `UsageError` for a key without a kind, or whose kind is carried out.
        """
        self._check_kept(key)
        known = self._system.there.get(key)
        handle = self._system.new_handle() if known is None else known.handle
        self._system.change(key, Found(key, value, handle, ours))

    def lose(self, key: str) -> None:
        """Let it not be there any more, as if it had been removed by hand, nor what goes with it;
        for the rest, see `find`."""
        self._check_kept(key)
        self._system.change(key, None)

    def refresh(self) -> list[str]:
        """Read all that is there; what is done then, in order."""
        return self._steps_of(self._rec.refresh)

    def notify(self, key: str) -> list[str]:
        """Tell of what is there of one object, without reading the others; what is done then, in
        order."""
        self._check_kept(key)
        return self._steps_of(self._notify, key)

    async def _notify(self, key: str) -> None:
        self._system.heard([key])
        self._rec.notify(key, self._system.there.get(key))

    def restart(self) -> list[str]:
        """Let the program crash and start again: what runs is cut off, and what is there is read.
        What is done then, in order. Before anything is stored, it starts with an empty store."""
        return self._steps_of(self._again)

    async def _again(self) -> None:
        if self._begun:
            await self._rec.aclose()
            self._system.forget()
            self._rec = self._made()
        await self._begin()

    # -- what goes wrong ---------------------------------------------------------------------------

    def fail(self, operation: str, error: Exception, *, times: int = 1, done: bool = False) -> None:
        """Let an operation fail.

        operation: as it is told, such as "create config/interface/eth0".
        error: what it raises; `Refused` for a value that turns out to be invalid.
        times: how often; default 1, the next time alone.
        done: whether it takes effect all the same; default False.

        Raises `UsageError` for what names no operation of a kind.
        """
        self._system.inject(operation, times, error, done=done)

    def hang(self, operation: str, *, times: int = 1, done: bool = False) -> None:
        """Let an operation hang until its time limit; for the rest, see `fail`. For a method that
        is plain, and so has no limit, it fails with `UsageError`."""
        self._system.inject(operation, times, None, done=done)

    def advance(self, seconds: float) -> list[str]:
        """Let time pass; what is done meanwhile, in order."""
        return self._steps_of(asyncio.sleep, seconds)

    # -- asking ------------------------------------------------------------------------------------

    @property
    def steps(self) -> list[Step]:
        """All operations since the beginning, with their values, handles and errors."""
        return list(self._system.steps)

    @property
    def trace(self) -> list[Record]:
        """What happened since the beginning, as the module `trace` has it: what is there, as far as
        the reconciler could know, and the operations."""
        return list(self._system.story.trace)

    def check(self) -> list[Violation]:
        """What does not hold of all that a reconciler promises; empty where everything does.

        The operations are held against what was there; where none is under way, what is there is
        held against what is stored, as far as it can be applied.
        """
        checker = Checker()
        found = [one for record in self.trace for one in checker.take(record)]
        if all(step.ended for step in self.steps):
            found += checker.end(self._usable().run(self._goals()), self._equal)
        return found

    async def _goals(self) -> dict[str, Object]:
        """What is stored, with its parts, but for what is invalid, or has failed."""
        goals: dict[str, Object] = {}
        for kind, type_, _ in self._kinds:
            async for kv in self._sync.list(kind.prefix, type_):
                if self._system.kind_of(kv.key) is kind and self._is_goal(kv.key):
                    goals[kv.key] = Object(kv.value, kind.relations(kv.key, kv.value)[0])
        for key, goal in list(goals.items()):
            for part, value in self._system.kind_of(key).derived(key, goal.value).items():
                if self._is_goal(part):
                    needs = self._system.kind_of(part).relations(part, value)[0]
                    goals[part] = Object(value, (*needs, Needs.key(key)))
        return goals

    def _is_goal(self, key: str) -> bool:
        return self.state(key) in (State.APPLIED, State.PENDING)

    def _equal(self, key: str, one: Any, other: Any) -> bool:
        equal = getattr(self._system.kind_of(key), "equal", None)
        return bool(one == other if equal is None else equal(key, one, other))

    def state(self, key: str) -> State | None:
        """See `Reconciler.state`."""
        return self._rec.state(key)

    def reason(self, key: str) -> str:
        """See `Reconciler.reason`."""
        return self._rec.reason(key)

    def handle(self, key: str) -> Any:
        """See `Reconciler.handle`; kinds that need it can be given this method."""
        return self._rec.handle(key)

    def _steps_of(self, work: Callable[..., Awaitable[object]], *arguments: Any) -> list[str]:
        async def settled() -> None:
            await work(*arguments)
            await asyncio.sleep(_MOMENT)  # the clock moves once nothing else can

        runner = self._usable()
        before = len(self._system.steps)
        runner.run(settled())
        return [str(step) for step in self._system.steps[before:]]
