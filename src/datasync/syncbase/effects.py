"""What the core asks of its shell, in order. The shell carries them out when the core has returned."""

from __future__ import annotations

from typing import Any

import msgspec

from datasync.events import Event

__all__ = ["Effect", "Request"]


class Request(msgspec.Struct, gc=False):
    """Something was registered: the feed of this layer (by index) is to bring it up to date. It does not wait for
    effects: a write that comes next is to find it done. `wider`: the session may not follow all of its scopes."""

    layer: int
    wider: bool


Effect = Event[Any]
"""It is to be given to the handler of its watch, or to whoever waits in the stream."""
