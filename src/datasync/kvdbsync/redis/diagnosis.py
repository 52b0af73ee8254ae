"""What can be found out of a Redis server: version, eviction, persistence, permissions, clock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from datasync.certificates import encryption_findings
from datasync.findings import Finding, Severity, clock_finding, size_text
from datasync.kvdbsync.redis.link import Command, Link, ReplyError

__all__ = ["findings_of"]

_SETTINGS = ("maxmemory", "maxmemory-policy", "appendonly", "save")


async def findings_of(link: Link, key: str) -> list[Finding]:
    """How the server behind a connection is."""
    name = link.address
    version = link.hello.get(b"version")
    told = version.decode(errors="replace") if isinstance(version, bytes) else "of no known version"
    found = [Finding("server", Severity.OK, f"{name} runs Redis {told}")]

    asked = time.time()
    [clock] = await _ask(link, ("TIME",))
    if isinstance(clock, list) and len(clock) == 2:
        theirs = int(clock[0]) + int(clock[1]) / 1e6
        found.append(clock_finding(name, theirs, asked, time.time()))

    found += await _leave(link, key)
    found += await _settings(link)
    found += await _persistence(link)
    access, endpoint = link.access, link.endpoint
    return found + await encryption_findings(
        endpoint.bare, endpoint.port, access.tls,
        secret=access.password is not None, timeout=access.timeout,
    )  # fmt: skip


async def _ask(link: Link, *commands: Command) -> list[Any]:
    """The replies, errors among them: not everybody may ask everything."""
    return await link.answered(link.send(*commands))


async def _leave(link: Link, key: str) -> list[Finding]:
    """Whether this user may write, which a server from 7.0 on can say without a write."""
    [user] = await _ask(link, ("ACL", "WHOAMI"))
    if isinstance(user, ReplyError):
        return [_untold(link, "leave to write")]
    [put, delete] = await _ask(
        link, ("ACL", "DRYRUN", user, "SET", key, ""), ("ACL", "DRYRUN", user, "UNLINK", key)
    )
    if isinstance(put, ReplyError) or isinstance(delete, ReplyError):
        return [_untold(link, "leave to write")]
    refused = [reply for reply in (put, delete) if reply != b"OK"]
    if not refused:
        return [Finding("permissions", Severity.OK, f"may write at {link.address}")]
    why = refused[0].decode(errors="replace") if isinstance(refused[0], bytes) else "refused"
    return [
        Finding(
            "permissions",
            Severity.WARNING,
            f"may not write at {link.address}: {why}",
            "where it is to write: ACL SETUSER ... ~prefix* +@read +@write +multi +exec",
        )
    ]


async def _settings(link: Link) -> list[Finding]:
    replies = await _ask(link, *(("CONFIG", "GET", name) for name in _SETTINGS))
    if any(isinstance(reply, ReplyError) for reply in replies):
        return [_untold(link, "settings")]
    given: dict[str, str] = {}
    for reply in replies:
        pairs = (
            reply.items()
            if isinstance(reply, Mapping)
            else zip(reply[::2], reply[1::2], strict=True)
        )
        given |= {name.decode(): value.decode(errors="replace") for name, value in pairs}

    found = []
    limit, policy = int(given.get("maxmemory", 0)), given.get("maxmemory-policy", "noeviction")
    if limit and policy != "noeviction":
        found.append(
            Finding(
                "eviction",
                Severity.WARNING,
                f"beyond {size_text(limit)} {link.address} evicts keys ({policy}), which watches "
                "see as deletes",
                "CONFIG SET maxmemory-policy noeviction, or a database for what is evicted",
            )
        )
    else:
        found.append(Finding("eviction", Severity.OK, f"{link.address} evicts nothing"))
    if given.get("appendonly") != "yes":
        kept = f"the last snapshot (save {given['save']})" if given.get("save") else "nothing"
        found.append(
            Finding(
                "persistence",
                Severity.WARNING,
                f"a restart of {link.address} keeps {kept}; watches get a RESYNC without the rest",
                "CONFIG SET appendonly yes",
            )
        )
    else:
        found.append(
            Finding("persistence", Severity.OK, f"{link.address} keeps a log (appendonly)")
        )
    return found


async def _persistence(link: Link) -> list[Finding]:
    [info] = await _ask(link, ("INFO", "persistence"))
    if not isinstance(info, bytes):
        return []
    said = dict(
        line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line
    )
    failed = [
        name
        for name in ("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status")
        if said.get(name, "ok") != "ok"
    ]
    return [
        Finding(
            "persistence",
            Severity.ERROR,
            f"{link.address} could not write its file ({name}): it may take no writes",
            "see the log of the server, and how much room its disk has",
        )
        for name in failed
    ]


def _untold(link: Link, what: str) -> Finding:
    return Finding(
        "permissions", Severity.OK, f"{what} at {link.address}: this user may not ask for it"
    )
