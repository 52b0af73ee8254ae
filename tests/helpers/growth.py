"""How the work of something grows with how much there is: counted in bytecodes, not in seconds.

So the numbers are those of any machine, at any load. Work within a single call of C counts as one.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
from collections.abc import Awaitable, Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Steps", "growth"]


class Steps:
    """Counts the bytecodes that this thread runs, whichever tasks they are of,
    while it is entered.

    No garbage is collected meanwhile: hypothesis, say, has code that is called then.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: Any = None
        self._collecting = False

    def __enter__(self) -> None:
        self._collecting = gc.isenabled()
        gc.disable()
        self._before = sys.gettrace()
        here = inspect.currentframe()
        assert here is not None
        here.f_trace_opcodes = True  # 3.12.1 heeds it only from the next `settrace` on
        sys.settrace(self._trace)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.settrace(self._before)
        if self._collecting:
            gc.enable()

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "call":
            frame.f_trace_lines, frame.f_trace_opcodes = False, True
        elif event == "opcode":
            self.count += 1
        return self._trace


def growth(scenario: Callable[[int, Steps], Awaitable[None]], size: int = 50) -> float:
    """How many times as much work four times the size is.

    That is 4 where each item costs the same, and 16 where it costs as much as there are items. The
    scenario enters the `Steps` that it is given for what is to be counted.
    """
    counts = []
    # Python may heed what is asked of a frame only from the next call of its function on: so once
    # for nothing
    for items in (1, size, 4 * size):
        steps = Steps()

        async def main(items: int = items, steps: Steps = steps) -> None:
            async with asyncio.timeout(60):
                await scenario(items, steps)

        asyncio.run(main())
        counts.append(steps.count)
    return counts[2] / counts[1]
