"""What is there, read from each kind: one that does not answer holds up nobody else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from datasync import Backoff
from datasync.reconcile.handlers import Handlers
from datasync.reconcile.operations import Seen
from datasync.reconcile.planner import Planner
from datasync.reconcile.slots import ABSENT, Slot
from datasync.reconcile.told import check_kind, text_of
from datasync.reconcile.turns import News
from datasync.tasks import end_tasks
from datasync.texts import logger

__all__ = ["Reader"]

log = logger("datasync.reconcile")


class Reader:
    """Reads kinds, and tells the planner.

    patience: seconds that the objects of other kinds wait for one that is read.
    retry: the waits between tries of a kind that could not be read.
    tell: called with what is to be told.
    turn: called when the planner has heard something.
    """

    def __init__(
        self,
        planner: Planner,
        patience: float,
        retry: Backoff,
        tell: Callable[[News], None],
        turn: Callable[[], None],
    ) -> None:
        self._planner = planner
        self._patience = patience
        self._retry = retry
        self._tell = tell
        self._turn = turn
        self._asked: dict[Handlers, asyncio.Task[dict[str, Seen]]] = {}
        """Those that have not answered. A thread cannot be cancelled, and a second one beside it
        would hang as well."""

    async def follow(self, kinds: Collection[Handlers], interval: float | None) -> None:
        """Read each kind until that succeeds, then all that can be read at intervals (in
        seconds)."""
        async with asyncio.TaskGroup() as group:
            for kind in await self.read(kinds):
                group.create_task(self._read_again(kind))
            while interval is not None:
                await asyncio.sleep(interval)
                await self.read([kind for kind in kinds if kind.can_retrieve])

    async def _read_again(self, kind: Handlers) -> None:
        attempt = 0
        while await self.read([kind]):
            attempt += 1
            await asyncio.sleep(self._retry.delay(attempt, random.Random()))  # noqa: S311

    async def read(self, kinds: Collection[Handlers]) -> list[Handlers]:
        """Read these kinds, each after those that its objects need. Returns those that could not be
        read."""
        if not kinds:
            return []
        number = self._planner.begin_reading()
        failed: list[Handlers] = []
        tasks: dict[Handlers, asyncio.Task[None]] = {}

        async def read_one(kind: Handlers, needed: Collection[asyncio.Task[None]]) -> None:
            if needed:
                await asyncio.wait(needed, timeout=self._patience)
            try:
                found = await self._ask(kind)
            except Exception as error:
                why = f"what is there could not be read: {text_of(error)}"
                log.warning("%s: %s", kind.name, why)
                self._tell(partial(self._planner.still_unread, kind, why))
                failed.append(kind)
            else:
                self._tell(partial(self._planner.reading, number, {kind: found}))

        try:
            async with asyncio.TaskGroup() as group:
                for kind, needed in self._in_order(kinds).items():
                    tasks[kind] = group.create_task(read_one(kind, [tasks[one] for one in needed]))
                # what has vanished together is to be known together, unless that takes too long
                _, rest = await asyncio.wait(tasks.values(), timeout=self._patience)
                self._turn()
                while rest:
                    _, rest = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
                    self._turn()
        finally:
            self._tell(partial(self._planner.end_reading, number))
        return failed

    async def _ask(self, kind: Handlers) -> dict[str, Seen]:
        """What is there of that kind. Raises `TimeoutError`, and what the kind raises."""
        before = self._asked.get(kind)
        if before is None or await _has_ended(before, kind.timeout):
            expected = self._expected(kind)
            if not kind.can_retrieve:
                return {key: Seen(value) for key, value in expected.items()}
            task = self._asked[kind] = asyncio.create_task(
                kind.retrieve(expected, None), name=f"datasync reconcile retrieve {kind.name}"
            )
            task.add_done_callback(_take_note)
            if await _has_ended(task, kind.timeout):
                if self._asked[kind] is task:
                    del self._asked[kind]
                if task.cancelled():
                    raise RuntimeError("cancelled by itself")
                return self._checked(kind, task.result())
        raise TimeoutError(f"no answer within {kind.timeout:g} s")

    def _checked(self, kind: Handlers, found: dict[str, Seen]) -> dict[str, Seen]:
        for key in found:
            check_kind(kind, key, self._planner.graph.kind_of(key))
        return found

    def _expected(self, kind: Handlers) -> Mapping[str, Any]:
        return {
            node.key: node.goal
            for node in self._planner.graph.nodes.values()
            if node.kind is kind and node.goal is not ABSENT
        }

    def _in_order(self, kinds: Collection[Handlers]) -> dict[Handlers, list[Handlers]]:
        """The kinds, each after those that its objects need, and these; what needs each other comes
        in any order."""
        needed: dict[Handlers, dict[Handlers, None]] = {kind: {} for kind in kinds}
        seen: set[tuple[Handlers, Slot]] = set()
        for node in self._planner.graph.nodes.values():
            kind = node.kind
            if not isinstance(kind, Handlers) or kind not in needed:
                continue
            for slot in node.needs:
                if (kind, slot) not in seen:
                    seen.add((kind, slot))
                    below = (one.kind for one in self._planner.graph.members(slot))
                    needed[kind].update((k, None) for k in below if isinstance(k, Handlers))

        order: dict[Handlers, list[Handlers]] = {}
        visited: set[Handlers] = set()

        def visit(kind: Handlers) -> None:
            visited.add(kind)
            for one in needed[kind]:
                if one in needed and one not in visited:
                    visit(one)
            order[kind] = [one for one in needed[kind] if one in order]

        for kind in kinds:
            if kind not in visited:
                visit(kind)
        return order

    async def aclose(self) -> None:
        """Ask no more; threads are left alone."""
        await end_tasks(*self._asked.values())


async def _has_ended(task: asyncio.Task[Any], timeout: float) -> bool:
    await asyncio.wait({task}, timeout=timeout)
    return task.done()


def _take_note(task: asyncio.Task[Any]) -> None:
    """Nobody may wait for it any more, and asyncio would complain."""
    if not task.cancelled():
        task.exception()
