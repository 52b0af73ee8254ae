"""The frames that a session yields: everything that the engine ever learns from a source.

Scopes: see `datasync.scopes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from datasync.outcome import Reply

__all__ = ["Commit", "Frame", "Progress", "SnapshotBegin", "SnapshotChunk", "SnapshotEnd"]


class SnapshotBegin(msgspec.Struct, frozen=True):
    """A snapshot starts; once complete it replaces all that lies under
    `scopes`. Only chunks may follow."""

    scopes: Sequence[str]


class SnapshotChunk(msgspec.Struct, frozen=True):
    """A part of a snapshot: (key, raw value, revision) in any order, best in key order."""

    items: Sequence[tuple[str, bytes, int]]


class SnapshotEnd(msgspec.Struct, frozen=True):
    """The snapshot is complete, and stands at `revision`; commits after `position` follow.

    `history` identifies the history where the source knows it: another value than before means a
    new one. `final`: see `Commit`. `same_history`: a session that has followed all along had to
    read everything again, and watches get what differs as a CHANGE; a snapshot in mid-session
    otherwise means a round of RESYNCs.
    """

    position: Any
    revision: int = 0
    history: str = ""
    reply: Reply | None = None
    same_history: bool = False
    final: bool = False


class Commit(msgspec.Struct, frozen=True, gc=False):
    """One atomic group: each key at most once, with its new bytes, or None where it was deleted.

    `final`: the reply is not for a publisher, who wants a verdict in time. It comes once all
    watches have settled the commit, or what overwrote it, whatever they say of single keys: not
    when they fail at first, nor when they are overdue.
    """

    position: Any
    revision: int
    changes: Sequence[tuple[str, bytes | None]]
    reply: Reply | None = None
    final: bool = False


class Progress(msgspec.Struct, frozen=True):
    """A bookmark: nothing before `position` is missing, though it may have brought no change."""

    position: Any
    revision: int = 0


Frame = SnapshotBegin | SnapshotChunk | SnapshotEnd | Commit | Progress
