"""kafka:// and kafkas:// - a topic of a Kafka cluster, version 3.1 or later (Go: msgsync).

`kafka://[user:password@]broker[:9092][,broker2…]/topic[?create=1&partitions=&replication=&partition=&sasl=&timeout=5]`;
`kafkas://` speaks TLS and takes `ca=`, `cert=` and `key=`, the names of PEM files. docs/kafka.md
has the whole of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Coroutine, Sequence
from typing import Any, cast

import msgspec

from datasync.capabilities import Capabilities
from datasync.endpoints import endpoints, max_answer, tls_of
from datasync.errors import BadUrl, DataSyncError
from datasync.findings import Finding
from datasync.msgsync.kafka.cluster import Access, Cluster, Known
from datasync.msgsync.kafka.diagnosis import findings_of
from datasync.msgsync.kafka.group import Member
from datasync.msgsync.kafka.publish import Message, Publisher
from datasync.msgsync.kafka.records import State
from datasync.msgsync.kafka.session import KafkaSession
from datasync.msgsync.kafka.table import Table
from datasync.msgsync.kafka.txn import Transactions
from datasync.shared import SharedSource, closed_on_error
from datasync.skipped_keys import SkippedKeys
from datasync.source import Committed, Delete, Held, Item, Operation, Put, Session, held
from datasync.texts import logger
from datasync.transports import Url, boolean, seconds

__all__ = ["KafkaSource", "from_url"]

log = logger("datasync.kafka")

_PORT = 9092
_LEAVE = 2.0
"""Seconds that telling a group may take when closing."""
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_MECHANISMS = {"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512"}


def from_url(url: Url) -> KafkaSource:
    """The topic that the URL names."""
    topic = url.path.removeprefix("/")
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise BadUrl(
            f"{url}: its path is not a topic; write kafka://broker/topic, in letters, digits, "
            "'.', '_' and '-'"
        )

    brokers = tuple((broker.bare, broker.port) for broker in endpoints(url, _PORT))
    if url.password is not None and not url.user:
        raise BadUrl(f"{url}: a password without a user; write user:password@")
    sasl = url.option("sasl", _mechanism, None)
    if sasl is not None and not url.user:
        raise BadUrl(f"{url}: sasl= without a user; write user:password@")

    create = url.option("create", boolean, False)
    partitions, replication = (
        url.option(name, _count, -1) for name in ("partitions", "replication")
    )
    if not create and (partitions, replication) != (-1, -1):
        raise BadUrl(
            f"{url}: partitions= and replication= are about a topic to be made; add create=1"
        )

    access = Access(
        brokers,
        topic,
        tls_of(url, "kafkas://", spoken=url.scheme == "kafkas"),
        url.user or None,
        url.password,
        sasl or "PLAIN",
        url.option("timeout", seconds, 5.0),
        create,
        partitions,
        replication,
        url.option("partition", _number, None),
        max_answer(url),
    )
    return KafkaSource(str(url), access, url.option("group", _name, None))


def _mechanism(text: str) -> str:
    if text.lower() not in _MECHANISMS:
        raise ValueError(f"takes {', '.join(_MECHANISMS)}, not {text!r}")
    return _MECHANISMS[text.lower()]


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 32_768:
        raise ValueError(f"takes an integer >= 1, not {text!r}")
    return int(text)


def _name(text: str) -> str:
    if not text:
        raise ValueError("takes the name of a group; write for example group=workers")
    return text


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"takes an integer >= 0, not {text!r}")
    return int(text)


class KafkaSource(SharedSource):
    """The keys of one topic, best a compacted one. Belongs to one event loop."""

    capabilities = Capabilities(
        order="key",
        atomic=False,
        snapshot="fuzzy",
        every_value=False,
        revisions=True,
        resume=True,
        ttl=False,
        cas=False,
        reply=False,
        durable=True,
    )

    def __init__(self, name: str, access: Access, group: str | None = None) -> None:
        self.name = name
        self._access = access
        self._member = None if group is None else Member(group)
        self._warned: set[object] = set()
        self._skipped = SkippedKeys(log)
        self._writer: _Writer | None = None
        self._known = Known()

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        cluster = self._cluster()
        async with closed_on_error(cluster.aclose):
            settings = await cluster.settings()
            if settings.policy != {"compact"}:
                policy = ",".join(sorted(settings.policy))
                self._warn(
                    f"{self.name} has cleanup.policy={policy}: Kafka forgets values after the "
                    "topic's retention, then snapshots lack them; set cleanup.policy=compact"
                )
            return await KafkaSession.start(
                cluster, settings, scopes, resume, added, self._report, self._member
            )

    def commit(
        self, operations: Sequence[Operation], *, reply: bool = False
    ) -> Coroutine[Any, Any, Committed]:
        return self._shared().commit(operations)

    async def delete_raw(self, key: bytes) -> bool:
        return await self._shared().delete_raw(key)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        found = (await self._shared().table.now()).get(key)
        return None if found is None else found[1:]

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        if token is None:
            state = await self._shared().table.now()
            token = held([state[key] for key in state.under(prefix)])
        page, following = cast(Held, token).page(limit)
        if keys_only:
            page = [(key, b"", revision) for key, _, revision in page]
        return page, following

    async def diagnose(self, key: str) -> Sequence[Finding]:
        cluster = self._cluster()
        try:
            return await findings_of(cluster)
        finally:
            await cluster.aclose()

    async def _close(self) -> None:
        writer, self._writer = self._writer, None
        async with contextlib.AsyncExitStack() as closing:  # each, though one of them is cancelled
            if self._member is not None:
                closing.push_async_callback(self._leave, self._member)
            if writer is not None:
                await writer.aclose()

    async def _leave(self, member: Member) -> None:
        cluster = self._cluster()
        try:
            with contextlib.suppress(DataSyncError, TimeoutError):
                # then they notice it by themselves
                async with asyncio.timeout(min(self._access.timeout, _LEAVE)):
                    await member.leave(cluster)
        finally:
            await cluster.aclose()

    def _shared(self) -> _Writer:
        if self._writer is None:
            self._writer = _Writer(self._cluster(), self._report)
        return self._writer

    def _cluster(self) -> Cluster:
        access = (
            self._access if self.create else msgspec.structs.replace(self._access, create=False)
        )
        return Cluster(access, self._known)

    def _report(self, key: bytes | None) -> None:
        if key is None:
            self._warn(f"{self.name} has messages without a key; they are skipped")
        else:
            self._skipped.text_of(key, "Kafka")

    def _warn(self, text: str) -> None:
        """Say it once."""
        if text not in self._warned:
            self._warned.add(text)
            log.warning("%s", text)


_NOTHING = State()
"""What need be known of the topic to write to it."""


class _Writer:
    """What writes and reads of one source share: connections, the producers and the table."""

    def __init__(self, cluster: Cluster, report: Any) -> None:
        self._cluster = cluster
        self._publisher = Publisher(self._cluster)
        self._transactions = Transactions(self._cluster)
        self.table = Table(self._cluster, report)

    async def commit(self, operations: Sequence[Operation]) -> Committed:
        """Publish the operations: one by itself, several as a transaction."""
        messages: list[Message] = []
        existed: list[bool] = []

        deletes = [operation for operation in operations if type(operation) is Delete]
        state = await self.table.now() if deletes else _NOTHING
        prefixes = [delete.key for delete in deletes if delete.prefix]
        deleted = iter(state.deleted_by(prefixes) if prefixes else ())

        for operation in operations:
            if type(operation) is Put:
                messages.append(
                    Message(operation.key.encode(), operation.raw, operation.content_type)
                )
            elif type(operation) is Delete:
                keys = next(deleted) if operation.prefix else [operation.key.encode()]
                existed.append(bool(keys) if operation.prefix else operation.key in state)
                messages.extend(Message(key, None) for key in keys)

        if not messages:
            return Committed(0, existed)
        if len(messages) == 1:
            return Committed(await self._publisher.put(messages[0]), existed)

        offsets = await self._transactions.commit(messages)
        by_key: dict[str, int] = {}
        for message, offset in zip(messages, offsets, strict=True):
            with contextlib.suppress(UnicodeDecodeError):  # a key that is skipped, under a prefix
                by_key[message.key.decode()] = offset
        return Committed(max(offsets), existed, by_key=by_key)

    async def delete_raw(self, key: bytes) -> bool:
        """Publish a tombstone."""
        existed = (await self.table.now()).has(key)
        await self._publisher.put(Message(key, None))
        return existed

    async def aclose(self) -> None:
        """Close at once: of the writes under way, those that were sent hear
        `OutcomeUnknown`, others `WatchClosed`."""
        try:
            await self._cluster.aclose()
        finally:
            await self._publisher.aclose()
