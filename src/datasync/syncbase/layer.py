"""A layer: what the core knows of one source."""

from __future__ import annotations

from typing import Any

from datasync.capabilities import Capabilities
from datasync.scopes import Scopes
from datasync.syncbase.confirm import Confirmations
from datasync.syncbase.mirror import Staging

__all__ = ["Layer"]


class Layer:
    """What the core knows of one source."""

    def __init__(
        self, index: int, name: str, capabilities: Capabilities, *, optional: bool
    ) -> None:
        self.index = index
        self.name = name
        self.optional = optional
        self.promise(capabilities)

        self.ready = False
        """A snapshot of it is complete."""
        self.complete = Scopes()
        """The scopes that the mirror holds completely."""
        self.covers_more = False
        """Its session covers more than is known; only what lies in `complete` is taken over."""

        self.next: Scopes | None = None
        """What the session will follow that is to take over;
        None where no other one is asked for.
        """

        self.loading = False
        """The snapshot that its session begins with is not complete."""
        self.widening = False
        """Scopes were registered that it has yet to bring."""

        self.registered = 0
        """Counts what was registered: watches, prefixes, views."""
        self.fresh = 0
        """What was registered up to here is shown all that the source had
        acknowledged before (G1).
        """
        self.opened_at = 0
        """What was registered up to here is shown by the snapshot that the session begins with."""

        self.position: Any = None
        self.revision = 0
        self.history = ""
        self.epoch = 0
        """Counts the histories: waiting for a revision makes sense only within one."""

        self.fault: str | None = "start"
        """Why the next full snapshot means a round of RESYNCs;
        None when it was asked for only to widen the scopes.
        """
        self.history_changed = False

        self.lost = False
        """Its session was lost, and it has not caught up since."""
        self.adds = False
        """The session brings a snapshot of added scopes."""

        self.staging: Staging | None = None
        self.staging_scopes = Scopes()
        self.round_reason: str | None = None

        self.confirmations = Confirmations()

    def promise(self, can: Capabilities) -> None:
        """What the source can, which some learn only when they connect."""
        self.has_revisions = can.revisions
        # the revisions of keys that are ordered each for itself do not tell how far all of them are
        self.revisions = can.revisions and can.order == "total"
        self.can_resume = can.resume
