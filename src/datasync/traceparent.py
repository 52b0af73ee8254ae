"""The trace that a write belongs to, on its way from who asks for it to the watches, in the form of
W3C Trace Context; what makes spans of it is `datasync.tracing`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar

__all__ = ["HEADER", "carried", "carrying"]

HEADER = "traceparent"
"""The header that carries it."""
_FORM = re.compile(r"(?!ff)[0-9a-f]{2}(-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})(?:-.*)?")
_NOTHING = contextlib.nullcontext()
_current: ContextVar[str | None] = ContextVar("datasync_traceparent", default=None)


def carried() -> str | None:
    """That of the write that is under way here; None where there is none."""
    return _current.get()


def carrying(traceparent: str | None) -> AbstractContextManager[None]:
    """Within the block a write is under way that belongs to this trace, where there is one.

    What is not of that form is left out, and so is what a later version may add to it: anybody may
    send that, and it goes on to other servers.
    """
    found = _FORM.fullmatch(traceparent.strip()) if traceparent else None
    return _NOTHING if found is None else _carrying(f"00{found[1]}")


@contextlib.contextmanager
def _carrying(traceparent: str) -> Iterator[None]:
    token = _current.set(traceparent)
    try:
        yield
    finally:
        _current.reset(token)
