"""etcd:// and etcds:// - an etcd cluster, version 3.4 or later (Go: kvdbsync over etcd).

`etcd://[user:password@]host[:2379][,host2…][?timeout=5&max_answer=268435456]`; `etcds://` speaks
TLS and takes `ca=`, `cert=` and `key=`, the names of PEM files. docs/etcd.md has the whole of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from datasync.capabilities import Capabilities
from datasync.endpoints import endpoints, max_answer, tls_of
from datasync.errors import BadUrl, DataSyncError
from datasync.findings import Finding
from datasync.kvdbsync.etcd.channel import RANGE, Access, Link
from datasync.kvdbsync.etcd.cluster import Cluster
from datasync.kvdbsync.etcd.diagnosis import findings_of
from datasync.kvdbsync.etcd.history import Position
from datasync.kvdbsync.etcd.keys import items_of, range_of
from datasync.kvdbsync.etcd.leases import Leases
from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb
from datasync.kvdbsync.etcd.session import EtcdSession
from datasync.kvdbsync.etcd.snapshot import read_page
from datasync.kvdbsync.etcd.stride import Stride
from datasync.kvdbsync.etcd.txn import delete_raw, revoke, write
from datasync.kvdbsync.etcd.versions import advice
from datasync.shared import SharedSource
from datasync.source import Committed, Item, Operation, Session
from datasync.texts import logger
from datasync.transports import Url, seconds

__all__ = ["EtcdSource", "from_url"]

log = logger("datasync.etcd")

_PORT = 2379


def from_url(url: Url) -> EtcdSource:
    """The cluster that the URL names."""
    if url.path.strip("/"):
        raise BadUrl(f"{url}: the path has no meaning here; name the keys with prefix= or label=")
    hosts = endpoints(url, _PORT)
    if url.password is not None and not url.user:
        raise BadUrl(f"{url}: a password without a user; write user:password@")
    timeout = url.option("timeout", seconds, 5.0)
    tls = tls_of(url, "etcds://", spoken=url.scheme == "etcds")
    return EtcdSource(
        str(url).rstrip("/"), Access(hosts, tls, url.user, url.password, timeout, max_answer(url))
    )


class EtcdSource(SharedSource):
    """The keys of one etcd cluster."""

    capabilities = Capabilities(
        order="total",
        atomic=True,
        snapshot="exact",
        every_value=True,
        revisions=True,
        resume=True,
        ttl=True,
        cas=True,
        reply=False,
        durable=True,
        max_operations=128,
    )

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self._cluster = Cluster(access)
        self._leases = Leases()
        self._advised: set[str] = set()

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        position = None if resume is None else Position.of(resume)

        async def start(link: Link) -> EtcdSession:
            self._advise(link.status.version)
            return await EtcdSession.start(link, scopes, position, added)

        return await self._cluster.dedicated(start)

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        committed, freed = await self._cluster.shared(
            lambda turn: write(turn, operations, self._leases)
        )
        if freed:
            with contextlib.suppress(DataSyncError):  # it is written; leases end by themselves, too
                await asyncio.gather(
                    *(self._cluster.shared(partial(revoke, lease=lease)) for lease in freed)
                )
        return committed

    async def delete_raw(self, key: bytes) -> bool:
        return await self._cluster.shared(lambda turn: delete_raw(turn, key))

    async def get(self, key: str) -> tuple[bytes, int] | None:
        request = pb.RangeRequest(key=key.encode())
        answer = await self._cluster.shared(lambda turn: turn.ask(RANGE, request))
        return (answer.kvs[0].value, answer.kvs[0].mod_revision) if answer.kvs else None

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        revision, left, limit = token or (0, Stride(*range_of(prefix)), limit)
        while True:
            read = partial(
                read_page, range_=left.asked, limit=limit, revision=revision, keys_only=keys_only
            )
            page, limit = await self._cluster.shared(read)
            revision, left = revision or page.header.revision, left.behind(page, limit)
            if left is None:
                return items_of(page.kvs), None
            if page.kvs:
                return items_of(page.kvs), (revision, left, limit)

    async def diagnose(self, key: str) -> Sequence[Finding]:
        return await findings_of(self._cluster, key)

    async def _close(self) -> None:
        await self._cluster.aclose()

    def _advise(self, version: str) -> None:
        if version not in self._advised:
            self._advised.add(version)
            if (known := advice(version)) is not None:
                log.warning("%s runs etcd %s: %s", self.name, version, known)
