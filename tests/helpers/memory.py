"""How much memory a part of a test takes."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Iterator

__all__ = ["memory_below"]


@contextlib.contextmanager
def memory_below(most: int) -> Iterator[None]:
    """Within the block, less than so many bytes more are in use at any time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:  # else it would count what the tests behind this one do, too
        tracemalloc.stop()
    assert peak < most, f"{peak:,} bytes in use"
