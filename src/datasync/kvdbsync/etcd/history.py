"""Where a session stands, and the proof that a server still has the same history.

Neither the id of the cluster nor a revision proves it: an emptied data directory keeps the one, and
a restored backup reaches the other again. So a position holds what only this history can have: the
newest value that was seen, with the revision that wrote it, and a lower bound of the length of the
raft log, which is empty again in every new history. The state at the position's own revision is
asked for, so it does not matter what happened to the key since.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from datasync.errors import HistoryLost
from datasync.kvdbsync.etcd.channel import RANGE, STATUS, Link
from datasync.kvdbsync.etcd.keys import range_of
from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb

__all__ = ["Position", "prove"]


class Position(NamedTuple):
    """Plain data, so that an application may keep it."""

    cluster: int
    revision: int
    lead: int
    """By how many entries the raft log is ahead of the revision, at least: each
    revision takes one or more."""
    key: str = ""
    """The key written last, as far as this was seen; "" where nothing was, or
    where it was deleted since."""
    at: int = 0
    """The revision that wrote it."""
    crc: int = 0
    """The CRC-32 of what was written."""
    gone: str = ""
    """A key deleted since then; "" where there is none."""
    gone_at: int = 0
    """The revision that deleted it."""

    @classmethod
    def of(cls, value: Any) -> Position:
        """The position in what an application kept; raises `HistoryLost`
        where it is none of ours."""
        try:
            cluster, revision, lead, key, at, crc, gone, gone_at = value
            return cls(
                int(cluster), int(revision), int(lead), str(key), int(at), int(crc),
                str(gone), int(gone_at),
            )  # fmt: skip
        except (TypeError, ValueError):
            raise HistoryLost(
                f"{value!r} is not a position of an etcd cluster; take a snapshot", changed=True
            ) from None

    def put(self, revision: int, key: str, raw: bytes) -> Position:
        """The position after a commit that wrote `key`."""
        return Position(self.cluster, revision, self.lead, key, revision, zlib.crc32(raw))

    def deleted(self, revision: int, keys: Sequence[str]) -> Position:
        """The position after a commit that only deleted."""
        if self.key in keys:
            return Position(self.cluster, revision, self.lead, "", 0, 0, self.key, revision)
        return Position(
            self.cluster, revision, self.lead, self.key, self.at, self.crc, keys[-1], revision
        )

    def reached(self, revision: int) -> Position:
        """The position after `revision`, which brought nothing new."""
        return self._replace(revision=revision)


async def prove(link: Link, position: Position, scopes: Sequence[str]) -> None:
    """Raise `HistoryLost` unless the server has the history in which
    `position` was, up to there at least.

    All reads are linearizable: a member that lags behind or was cut off waits,
    or fails, instead of answering.
    """
    known = position.key or position.gone
    if not scopes and not known:
        return
    key = known.encode() if known else range_of(scopes[0]).key
    try:
        found = await link.ask(RANGE, pb.RangeRequest(key=key, revision=position.revision))
    except HistoryLost as lost:
        if not lost.changed:  # compacted, but perhaps because the history is another one
            await _compare_logs(link, position)
        raise
    if found.header.cluster_id != position.cluster:
        raise _changed(link, "it is another cluster")
    await _compare_logs(link, position)
    if position.key:
        kvs = [(kv.mod_revision, zlib.crc32(kv.value)) for kv in found.kvs]
        if kvs != [(position.at, position.crc)]:
            raise _changed(
                link, f"at revision {position.revision} {position.key!r} has another value"
            )
    if position.gone and not await _deleted(link, position):
        raise _changed(link, f"revision {position.gone_at} did not delete {position.gone!r}")


async def _compare_logs(link: Link, position: Position) -> None:
    # after a linearizable read this member has applied all that any member had before
    status = await link.ask(STATUS, pb.StatusRequest())
    if status.header.cluster_id != position.cluster:
        raise _changed(link, "it is another cluster")
    if status.raft_applied_index < position.lead + position.revision:
        raise _changed(link, "its log is shorter than it was")


async def _deleted(link: Link, position: Position) -> bool:
    """Whether the deletion is where it was seen, as far as compaction lets one look."""
    key = position.gone.encode()
    now = await link.ask(
        RANGE, pb.RangeRequest(key=key, revision=position.revision, keys_only=True)
    )
    try:
        before = await link.ask(
            RANGE, pb.RangeRequest(key=key, revision=position.gone_at - 1, keys_only=True)
        )
        after = await link.ask(
            RANGE, pb.RangeRequest(key=key, revision=position.gone_at, keys_only=True)
        )
    except HistoryLost:
        return not now.kvs
    return bool(before.kvs) and not after.kvs and not now.kvs


def _changed(link: Link, why: str) -> HistoryLost:
    return HistoryLost(f"{link.endpoint}: a new history: {why}; take a snapshot", changed=True)
