"""Waiting for a condition, with a deadline, instead of sleeping and hoping; and
not for the garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from types import TracebackType

__all__ = ["eventually", "nothing_but", "ours", "without_collector"]


async def eventually(
    condition: Callable[[], object], timeout: float = 60.0, *, what: str = ""
) -> None:
    """Wait until `condition()` is true. Raises AssertionError after `timeout` seconds,
    naming `what` or the condition.

    A condition that raises AssertionError is not true yet; what it raised last
    is the cause of the final error.
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


def ours() -> Counter[str]:
    """How many objects of datasync there are, by type, and how many tracebacks through its code."""
    found: Counter[str] = Counter()
    for one in gc.get_objects():
        if isinstance(one, TracebackType):
            if _is_ours(module := one.tb_frame.f_globals.get("__name__", "")):
                found[f"traceback through {module}.{one.tb_frame.f_code.co_name}"] += 1
        elif _is_ours(type(one).__module__):
            found[f"{type(one).__module__}.{type(one).__qualname__}"] += 1
    return found


def nothing_but(before: Counter[str], *, more: int = 0) -> bool:
    """Whether there are no more of them than there were, save for `more` of each type. Raises
    AssertionError that names the others."""
    left = {name: count for name, count in (ours() - before).items() if count > more}
    assert not left, f"left until the next garbage collection: {left}"
    return True


def _is_ours(module: object) -> bool:
    # a store that is served in this process keeps a log
    others = ("datasync.testing.", "datasync.serving.")
    return (
        isinstance(module, str) and module.startswith("datasync.") and not module.startswith(others)
    )


def _text(condition: Callable[[], object]) -> str:
    try:
        return " ".join(inspect.getsource(condition).split())
    except (OSError, TypeError):
        return repr(condition)
