"""etcd:// and etcds:// - an etcd cluster, version 3.4 or later (Go: kvdbsync over etcd).

`etcd://[user:password@]host[:2379][,host2…][?timeout=5]`; `etcds://` speaks TLS and takes `ca=`, `cert=` and `key=`,
the names of PEM files. docs/etcd.md has the whole of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from datasync._grpc import channel_credentials, grpc
from datasync.capabilities import Capabilities
from datasync.endpoints import endpoints, no_tls_files, tls_files
from datasync.errors import BadUrl
from datasync.kvdbsync._etcd_channel import RANGE, Access, Cluster, Link
from datasync.kvdbsync._etcd_history import Position
from datasync.kvdbsync._etcd_keys import Range, items_of, range_of
from datasync.kvdbsync._etcd_pb import etcd_pb2 as pb
from datasync.kvdbsync._etcd_session import EtcdSession
from datasync.kvdbsync._etcd_snapshot import read_page
from datasync.kvdbsync._etcd_txn import delete_raw, write
from datasync.kvdbsync._etcd_versions import advice
from datasync.source import Committed, Item, Operation, Session, Source
from datasync.transports import Url, seconds

__all__ = ["EtcdSource", "from_url"]

log = logging.getLogger("datasync.etcd")

_PORT = 2379


def from_url(url: Url) -> EtcdSource:
    """The cluster that the URL names."""
    if url.path.strip("/"):
        raise BadUrl(f"{url}: the path {url.path!r} has no meaning here; name the keys with prefix= or label=")
    hosts = [str(endpoint) for endpoint in endpoints(url, _PORT)]
    if url.password is not None and not url.user:
        raise BadUrl(f"{url}: a password without a user; write user:password@")
    timeout = url.option("timeout", seconds, 5.0)
    if url.scheme == "etcds":
        credentials = _credentials(url)
    else:
        credentials = None
        no_tls_files(url, "etcds://")
    return EtcdSource(str(url).rstrip("/"), Access(hosts, credentials, url.user, url.password, timeout))


def _credentials(url: Url) -> grpc.ChannelCredentials:
    files = tls_files(url)
    ca, cert, key = (None if path is None else path.read_bytes() for path in files)
    return channel_credentials(ca, key, cert)


class EtcdSource(Source):
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
        self._advised: set[str] = set()

    async def open(self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()) -> Session:
        position = None if resume is None else Position.of(resume)

        async def start(link: Link) -> EtcdSession:
            self._advise(link.status.version)
            return await EtcdSession.start(link, scopes, position, added)

        return await self._cluster.dedicated(start)

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        return await self._cluster.shared(lambda link: write(link, operations))

    async def delete_raw(self, key: bytes) -> bool:
        return await self._cluster.shared(lambda link: delete_raw(link, key))

    async def get(self, key: str) -> tuple[bytes, int] | None:
        request = pb.RangeRequest(key=key.encode())
        answer = await self._cluster.shared(lambda link: link.ask(RANGE, request))
        return (answer.kvs[0].value, answer.kvs[0].mod_revision) if answer.kvs else None

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        start, end = range_of(prefix)
        revision, start, limit = token or (0, start, limit)
        page, limit = await self._cluster.shared(
            lambda link: read_page(link, Range(start, end), limit, revision, keys_only=keys_only)
        )
        following = (revision or page.header.revision, page.kvs[-1].key + b"\0", limit) if page.more else None
        return items_of(page.kvs), following

    async def aclose(self) -> None:
        await self._cluster.aclose()

    def _advise(self, version: str) -> None:
        if version not in self._advised:
            self._advised.add(version)
            if (known := advice(version)) is not None:
                log.warning("%s runs etcd %s: %s", self.name, version, known)
