"""What the core asks of its shell, in order. The shell carries them out when the core has returned."""

from __future__ import annotations

from typing import Any

import msgspec

from datasync.events import Event

__all__ = ["Effect", "Request", "Widen"]


class Widen(msgspec.Struct, gc=False):
    """The session of this layer (by index) does not cover all scopes any more: see to it that one does."""

    layer: int


Effect = Event[Any]
"""It is to be given to the handler of its watch, or to whoever waits in the stream."""

Request = Widen
"""It concerns the feed of a layer, and does not wait for effects: a write that comes next is to find it done."""
