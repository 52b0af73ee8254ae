"""What can be found out of an etcd cluster: each member's version and size, alarms, whether its
history is compacted."""

from __future__ import annotations

import contextlib

from datasync.certificates import encryption_findings
from datasync.errors import DataSyncError, HistoryLost
from datasync.findings import Finding, Severity, size_text
from datasync.kvdbsync.etcd.channel import RANGE, Link, Member
from datasync.kvdbsync.etcd.cluster import Cluster
from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb
from datasync.kvdbsync.etcd.versions import advice

__all__ = ["findings_of"]

_QUOTA = 2 << 30
"""Bytes that a database may have unless the server was told otherwise; servers from 3.6 on tell
their own."""
_FULL = 0.8
"""The share of the quota above which it is worth mentioning."""
_MUCH = 256 << 20
"""Bytes above which it matters how many of them are in use."""
_LONG = 100_000
"""Revisions that are a long history."""


async def findings_of(cluster: Cluster, key: str) -> list[Finding]:
    """How each member is, and then the cluster."""
    found: list[Finding] = []
    history: Finding | None = None
    for member in await cluster.members():
        try:
            link = await cluster.connect(member)
        except DataSyncError as error:
            found.append(Finding("member", Severity.ERROR, str(error)))
            continue
        try:
            found += _of_member(link)
            if history is None:
                with contextlib.suppress(DataSyncError):
                    history = await _history(link, key)
        finally:
            await link.aclose()
        found += await _encryption(link, member)
    return found if history is None else [*found, history]


def _of_member(link: Link) -> list[Finding]:
    status, name = link.status, link.endpoint
    known = advice(status.version)
    found = [
        Finding("server", Severity.OK, f"{name} runs etcd {status.version}")
        if known is None
        else Finding(
            "server",
            Severity.WARNING,
            f"{name} runs etcd {status.version}: {known.partition(': update')[0]}",
            f"update{known.rpartition('update')[2]}",
        )
    ]

    if not status.leader:
        found.append(
            Finding(
                "leader",
                Severity.ERROR,
                f"{name} knows of no leader: nothing can be written",
                "bring back the other members, more than half of all",
            )
        )

    found += [
        Finding(
            "alarm",
            Severity.ERROR,
            f"{name}: {' '.join(alarm.split())}",
            "NOSPACE: compact, defragment, then etcdctl alarm disarm; CORRUPT: replace the member",
        )
        for alarm in status.errors
    ]

    return [*found, *_sizes(status, name)]


def _sizes(status: pb.StatusResponse, name: str) -> list[Finding]:
    found: list[Finding] = []
    size, used = status.db_size, status.db_size_in_use
    quota = status.db_size_quota or _QUOTA

    if size > _FULL * quota:
        usual = "" if status.db_size_quota else " unless the server was given another"
        found.append(
            Finding(
                "size",
                Severity.WARNING,
                f"the database of {name} has {size_text(size)} of a quota of "
                f"{size_text(quota)}{usual}; when it is full nothing can be written",
                "compact and defragment it, or raise --quota-backend-bytes",
            )
        )
    elif size:
        found.append(Finding("size", Severity.OK, f"the database of {name} has {size_text(size)}"))

    if size > _MUCH and used < size / 2:
        found.append(
            Finding(
                "size",
                Severity.WARNING,
                f"only {size_text(used)} of it are in use",
                "etcdctl defrag, one member after the other",
            )
        )

    return found


async def _history(link: Link, key: str) -> Finding | None:
    """Whether anything was ever compacted: the settings themselves are not told."""
    now = (await link.ask(RANGE, pb.RangeRequest(key=key.encode()))).header.revision
    if now <= _LONG:
        return None
    try:
        await link.ask(RANGE, pb.RangeRequest(key=key.encode(), revision=1))
    except HistoryLost:
        return Finding("history", Severity.OK, "it is compacted now and then")
    return Finding(
        "history",
        Severity.WARNING,
        f"all of its {now:,} revisions are kept: the database grows with each write",
        "start the members with --auto-compaction-retention=1h",
    )


async def _encryption(link: Link, member: Member) -> list[Finding]:
    access, endpoint = link.access, member.endpoint
    return await encryption_findings(
        member.address or endpoint.bare, endpoint.port, access.tls, "h2",
        secret=access.has_user, name=endpoint.bare, timeout=access.timeout,
    )  # fmt: skip
