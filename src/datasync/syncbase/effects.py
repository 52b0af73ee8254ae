"""What the core asks of the engine, in order. It carries them out when the core has returned."""

from __future__ import annotations

from typing import Any

import msgspec

from datasync.events import Event
from datasync.syncbase.subscriber import Subscriber

__all__ = ["Effect", "Request"]


class Request(msgspec.Struct, gc=False):
    """Something was registered: the feed of this layer (by index) is to bring it up to date.

    It does not wait for effects: a write that comes next is to find it done. `wider`: the session
    may not follow all of its scopes.
    """

    layer: int
    wider: bool


Effect = tuple[Subscriber, Event[Any]]
"""This watch is to be given this event: its handler, or who waits in its stream."""
