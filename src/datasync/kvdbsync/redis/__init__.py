"""redis://, rediss://, redis+sentinel:// and redis+cluster:// - Redis 6.0 or
later (Go: kvdbsync over Redis).

`redis://[user:password@]host[:6379][/database][?timeout=5&max_answer=268435456]`;
`rediss://` speaks TLS and takes `ca=`, `cert=` and `key=`, the names of PEM files.
`redis+sentinel://[user:password@]sentinel[:26379][,sentinel2…]/name[/database]` and
`redis+cluster://[user:password@]host[:6379][,host2…]` do so with `tls=1`.
docs/redis.md has the whole of it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

from datasync.capabilities import Capabilities
from datasync.endpoints import MAX_ANSWER, TlsFiles, endpoints, max_answer, tls_of
from datasync.errors import AnswerTooLarge, BadUrl
from datasync.findings import Finding
from datasync.kvdbsync.redis.cluster import Cluster, Clustered
from datasync.kvdbsync.redis.diagnosis import findings_of
from datasync.kvdbsync.redis.errors import TopologyChanged
from datasync.kvdbsync.redis.keys import pattern_of, texts_of
from datasync.kvdbsync.redis.link import Access
from datasync.kvdbsync.redis.sentinel import Sentinels, WatchedOver
from datasync.kvdbsync.redis.session import RedisSession
from datasync.kvdbsync.redis.snapshot import Caution, Values
from datasync.kvdbsync.redis.store import Opener, Shared, Single, Store, scan
from datasync.shared import SharedSource, closed_on_error
from datasync.source import ROW_BYTES, Committed, Held, Item, Operation, Session
from datasync.transports import Url, boolean, seconds

__all__ = ["RedisSource", "from_url"]

_PORT, _SENTINEL_PORT = 6379, 26379
_SENTINEL, _CLUSTER = "redis+sentinel", "redis+cluster"


def from_url(url: Url) -> RedisSource:
    """The server, the servers behind sentinels, or the cluster that the URL names."""
    hosts = endpoints(url, _SENTINEL_PORT if url.scheme == _SENTINEL else _PORT)

    tls = _tls(url)
    timeout = url.option("timeout", seconds, 5.0)
    name, database = _path(url)
    most = max_answer(url)
    access = Access(tls, url.user or None, url.password, timeout, database, most)

    opener: Opener
    if url.scheme == _CLUSTER:
        opener = functools.partial(Clustered.open, Cluster(hosts, access))
    elif url.scheme == _SENTINEL:
        user = url.option("sentinel_user", str, None)
        password = url.option("sentinel_password", str, None)
        login = "sentinel_user= and sentinel_password="
        sentinels = Sentinels(
            hosts, Access(tls, user, password, timeout, max_answer=most, login=login), name
        )
        opener = functools.partial(WatchedOver.look_up, sentinels, access)
    elif len(hosts) > 1:
        raise BadUrl(f"{url}: several hosts; write redis+sentinel:// or redis+cluster://")
    else:
        opener = functools.partial(Single.open, hosts[0], access)

    return RedisSource(str(url).rstrip("/"), opener, timeout, most)


def _tls(url: Url) -> TlsFiles | None:
    plain = url.scheme == "redis"
    spoken = not plain and (url.scheme == "rediss" or url.option("tls", boolean, False))
    return tls_of(url, "rediss://" if plain else "tls=1 as well", spoken=spoken)


def _path(url: Url) -> tuple[str, int]:
    """The name of the primary, for sentinels, and the number of the database."""
    parts = url.path.strip("/").split("/") if url.path.strip("/") else []
    name = ""
    if url.scheme == _SENTINEL:
        if not parts:
            raise BadUrl(
                f"{url}: the name of the primary is missing; write {url.scheme}://host/name"
            )
        name = parts.pop(0)
    if not parts:
        return name, 0
    if url.scheme == _CLUSTER:
        raise BadUrl(f"{url}: a cluster has only one database; leave out the path")
    if len(parts) > 1 or not parts[0].isdecimal() or len(parts[0]) > 9:
        raise BadUrl(
            f"{url}: what ends its path is not a database; write its number. Keys are named with "
            "prefix= or label="
        )
    return name, int(parts[0])


class RedisSource(SharedSource):
    """The strings of one Redis database."""

    capabilities = Capabilities(
        order="key",
        atomic=False,
        snapshot="fuzzy",
        every_value=False,
        revisions=False,
        resume=False,
        ttl=True,
        cas=False,
        reply=False,
        durable=False,
    )

    def __init__(self, name: str, opener: Opener, timeout: float, most: int = MAX_ANSWER) -> None:
        self.name = name
        self._opener = opener
        self._shared = Shared(opener, timeout)
        self._caution = Caution(most)

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        store = await self._opener()
        async with closed_on_error(store.aclose):
            return await RedisSession.start(store, scopes, self._caution)

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        return await self._shared.use(lambda store: store.write(operations))

    async def delete_raw(self, key: bytes) -> bool:
        return await self._shared.use(lambda store: store.unlink([key]))

    async def get(self, key: str) -> tuple[bytes, int] | None:
        keys, _ = texts_of([key.encode()])
        values = await self._shared.use(lambda store: store.fetch(keys)) if keys else [None]
        return None if values[0] is None else (values[0], 0)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        first, values = token, None

        async def read(store: Store) -> tuple[Sequence[Item], Any | None]:
            nonlocal first, values
            if first is None:
                found = await _sorted_keys(store, prefix)
                first = Held(found, 0, sum(ROW_BYTES + len(key) for key in found))
            page, following = cast(Held, first).page(limit)
            keys, texts = texts_of(page)
            if keys_only:
                return [(text, b"", 0) for text in texts], following

            values = values or Values(keys, self._caution)
            pairs = zip(texts, await values.read(store), strict=True)
            return [(text, value, 0) for text, value in pairs if value is not None], following

        # on a new connection
        return await self._shared.use(read, again=(TopologyChanged, AnswerTooLarge))

    async def diagnose(self, key: str) -> Sequence[Finding]:
        async def ask(store: Store) -> list[Finding]:
            return [finding for link in store.links for finding in await findings_of(link, key)]

        return await self._shared.use(ask)

    async def _close(self) -> None:
        await self._shared.aclose()


async def _sorted_keys(store: Store, prefix: str) -> list[bytes]:
    """All of them: Redis has no order to go on in."""
    found: set[bytes] = set()
    for link in store.links:
        async for keys in scan(link, pattern_of(prefix), "TYPE", "string"):
            found.update(keys)
    return sorted(found)
