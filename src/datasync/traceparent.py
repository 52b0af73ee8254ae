"""The trace that a write belongs to, on its way from who asks for it to the watches, in the form of
W3C Trace Context; what makes spans of it is `datasync.tracing`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["HEADER", "carried", "carrying"]

HEADER = "traceparent"
"""The header that carries it."""
_current: ContextVar[str | None] = ContextVar("datasync_traceparent", default=None)


def carried() -> str | None:
    """That of the write that is under way here; None where there is none."""
    return _current.get()


@contextlib.contextmanager
def carrying(traceparent: str | None) -> Iterator[None]:
    """Within the block a write is under way that belongs to this trace, where there is one."""
    if traceparent is None:
        yield
        return
    token = _current.set(traceparent)
    try:
        yield
    finally:
        _current.reset(token)
