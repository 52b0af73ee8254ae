"""What the core asks of its shell, in order. The shell carries them out when the core has returned."""

from __future__ import annotations

from typing import Any

import msgspec

from datasync.events import Event

__all__ = ["Effect", "Reopen"]


class Reopen(msgspec.Struct, gc=False):
    """The session of this layer (by index) does not cover all scopes any more: open one that does."""

    layer: int


Effect = Event[Any] | Reopen
"""An event is to be given to the handler of its watch, or to whoever waits in the stream."""
