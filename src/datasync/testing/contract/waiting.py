"""Waiting for a condition, with a deadline, instead of sleeping and hoping; and not for the garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
from collections.abc import Callable, Iterator

__all__ = ["eventually", "without_collector"]


async def eventually(condition: Callable[[], object], timeout: float = 60.0, *, what: str = "") -> None:
    """Wait until `condition()` is true. Raises AssertionError after `timeout` seconds, naming `what` or the condition.

    A condition that raises AssertionError is not true yet; what it raised last is the cause of the final error.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    pause, cause = 0.001, None
    while True:
        try:
            if condition():
                return
            cause = None
        except AssertionError as error:
            cause = error
        if loop.time() >= deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or _text(condition)}") from cause
        await asyncio.sleep(pause)
        pause = min(0.02, pause * 1.5)


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Within the block there is no garbage collection: what only that would close stays open."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _text(condition: Callable[[], object]) -> str:
    try:
        return " ".join(inspect.getsource(condition).split())
    except (OSError, TypeError):
        return repr(condition)
