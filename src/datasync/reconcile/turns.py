"""What the planner is told, and what follows from it: one turn after the other, in portions.

A turn over many objects would hold up everybody else in the loop. So it stops after some steps and
goes on when the loop has turned; what is told meanwhile waits. The planner sees no difference: the
same is told in the same order, and all is decided before the next is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from datasync import WatchClosed
from datasync.reconcile.planner import Planner
from datasync.reconcile.plans import Plan
from datasync.reconcile.slots import Operation
from datasync.texts import logger

__all__ = ["PORTION", "News", "Turns"]

log = logger("datasync.reconcile")

News = Callable[[], Iterable[None] | None]
"""Tells the planner something: at once, or step by step."""

PORTION = 200
"""Steps after which the loop turns: an object that is told of, or looked at."""


class _Turn:
    """One of them: its steps, and who waits for the last one."""

    __slots__ = ("ended", "steps")

    def __init__(self, steps: Iterator[object], ended: asyncio.Future[None] | None) -> None:
        self.steps = steps
        self.ended = ended


class Turns:
    """The only one that lets the planner decide.

    started: called with each operation that starts, and with the plan that it is part of.
    shown: called after each portion, when others may look at the objects.
    decided: called with the plan at the end of a turn.
    """

    def __init__(
        self,
        planner: Planner,
        started: Callable[[Operation, Plan], None],
        shown: Callable[[], None],
        decided: Callable[[Plan], None],
    ) -> None:
        self._planner = planner
        self._started = started
        self._shown = shown
        self._decided = decided
        self._turns: deque[_Turn] = deque()
        """The one that is under way, and those that wait for it."""
        self._is_half_way = False
        self._left = PORTION
        """Steps that may be made before the loop turns."""
        self._loop_turns: asyncio.Handle | None = None
        """Called then, where any were made."""
        self._is_closed = False

    @property
    def is_busy(self) -> bool:
        """Whether something was told, and not all of it is decided."""
        return bool(self._turns)

    @property
    def is_half_way(self) -> bool:
        """Whether a turn stopped in between: what the objects are to become is not decided."""
        return self._is_half_way

    def tell(self, news: News, plan: Plan | None = None) -> None:
        """Tell the planner, and let it decide; a short turn ends within the call, if no other is
        under way.

        plan: what the operations that start are part of; None (the default): nothing is decided
            yet, for more is told.
        """
        self._append(_Turn(self._steps(news, plan), None))

    async def told(self, news: News, plan: Plan | None = None) -> None:
        """The same; returns at the end of the turn, before the next one begins. Raises
        `WatchClosed` where it does not come to that, and what `news` raises."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._append(_Turn(self._steps(news, plan), ended))
        await ended

    def close(self) -> None:
        """Nothing is told or decided any more."""
        self._is_closed = True
        if self._loop_turns is not None:
            self._loop_turns.cancel()
        for turn in self._turns:
            _settle(turn, WatchClosed("the reconciler has been closed"))
        self._turns.clear()
        self._is_half_way = False

    def _append(self, turn: _Turn) -> None:
        if self._is_closed:
            _settle(turn, WatchClosed("the reconciler has been closed"))
            return
        self._turns.append(turn)
        if len(self._turns) == 1 and self._left:
            self._go_on()

    def _go_on(self) -> None:
        """With the turn that is under way, and those that wait, for one portion."""
        if self._loop_turns is None:
            self._loop_turns = asyncio.get_running_loop().call_soon(self._has_turned)
        while self._turns and self._left:
            turn, is_awaited = self._turns[0], self._is_half_way
            error: Exception | None = None
            self._is_half_way = True
            try:
                for _ in turn.steps:
                    self._left -= 1
                    if not self._left:
                        self._shown()
                        return
            except Exception as raised:
                error = raised
            self._is_half_way = False
            self._turns.popleft()
            _settle(turn, error)
            if is_awaited or turn.ended is not None:
                return  # who waits for its end is called before the next one begins

    def _has_turned(self) -> None:
        self._loop_turns, self._left = None, PORTION
        if self._turns:
            self._go_on()

    def _steps(self, news: News, plan: Plan | None) -> Iterator[object]:
        yield from news() or ()
        if plan is None:
            return
        for op in self._planner.steps():
            if op is not None:
                self._started(op, plan)
            yield None
        self._shown()
        self._decided(plan)


def _settle(turn: _Turn, error: Exception | None) -> None:
    """It has ended, or will not."""
    if turn.ended is None:
        if error is not None and not isinstance(error, WatchClosed):
            log.error("unexpected error in the reconciler", exc_info=error)
    elif not turn.ended.done():  # else nobody waits any more
        if error is None:
            turn.ended.set_result(None)
        else:
            turn.ended.set_exception(error)
