"""The way to the brokers of a cluster: connections, and where the partitions of the topic are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
from aiokafka.errors import KafkaError

from datasync.certificates import explained
from datasync.endpoints import MAX_ANSWER, TlsFiles
from datasync.errors import BadStore, DataSyncError, Disconnected, WatchClosed
from datasync.msgsync.kafka import errors
from datasync.msgsync.kafka.internals import (
    Connection,
    CreateTopicsRequest,
    DescribeConfigsRequest,
    FindCoordinatorRequest,
    OffsetRequest,
)
from datasync.msgsync.kafka.wire import TopicMetadata
from datasync.tasks import untrace

__all__ = ["Access", "Address", "Cluster", "Known", "Settings", "Topic"]

T = TypeVar("T")
Address = tuple[str, int]


_EARLIEST, _LATEST = -2, -1
_TOPIC_RESOURCE = 2
_PAUSE = 0.02
_TRIES = 4
"""Brokers that a request has time for when each of them hangs."""
_NEVER_MS = 60_000
_MARKED = 0.5
"""Seconds in which a transaction that was committed is marked so in all its partitions."""
_TOPIC_AGE = 30.0
"""Seconds after which it is looked up again even if nothing went wrong:
partitions may have been added."""
_SETTINGS = ["cleanup.policy", "delete.retention.ms", "max.message.bytes"]


class Access(msgspec.Struct, frozen=True):
    """How to reach a cluster: first brokers, topic, TLS, user, seconds that a request may
    take, whether (with how many partitions and replicas; -1: the broker's default) a
    missing topic is made, the only partition to use, and bytes that one answer, or what
    is unpacked of it, may have."""

    brokers: tuple[Address, ...]
    topic: str
    tls: TlsFiles | None = None
    user: str | None = None
    password: str | None = None
    sasl: str = "PLAIN"
    timeout: float = 5.0
    create: bool = False
    partitions: int = -1
    replication: int = -1
    partition: int | None = None
    max_answer: int = MAX_ANSWER

    def __repr__(self) -> str:
        return f"Access({self.brokers}, {self.topic!r})"


class Topic(msgspec.Struct, frozen=True):
    """A topic at one moment: its id, and of each partition in use its number, the
    leader's address and epoch."""

    id: bytes
    numbers: tuple[int, ...]
    leaders: tuple[Address, ...]
    epochs: tuple[int, ...]

    def by_leader(self, partitions: Sequence[int]) -> dict[Address, list[int]]:
        """These partitions, by their indices in the tuples, put together by who leads them."""
        found: dict[Address, list[int]] = {}
        for partition in partitions:
            found.setdefault(self.leaders[partition], []).append(partition)
        return found


class Settings(msgspec.Struct, frozen=True):
    """The settings of the topic that matter here; `policy` is what is done with old
    messages, `retention` how many seconds a tombstone is kept for sure (None: nobody knows),
    `largest` a message in bytes."""

    policy: frozenset[str] = frozenset({"compact"})
    retention: float | None = None
    largest: int = 1_000_000


class Known:
    """What was learned of a cluster so far: the brokers that it had when it was last asked, and
    whether the topic was ever there."""

    def __init__(self) -> None:
        self.brokers: dict[Address, None] = {}
        self.topic = False


class NoLeader(Disconnected):
    """Brokers answer, but one of the partitions has no leader at the moment."""


class Cluster:
    """Connections of one user of the topic. `lane` of a request: what has to wait
    in one lane delays no other."""

    def __init__(self, access: Access, known: Known | None = None) -> None:
        """`known`: shared by those who use the same topic."""
        self.access = access
        self._known = Known() if known is None else known
        scheme = "kafka" if access.tls is None else "kafkas"
        self.name = f"{scheme}://{','.join(map(_text, access.brokers))}/{access.topic}"
        self._topic: Topic | None = None
        self._found_at = 0.0
        self._coordinators: dict[str, Address] = {}
        self._connections: dict[tuple[Address, str], Any] = {}
        self._connecting: dict[tuple[Address, str], asyncio.Lock] = {}
        self._finding: dict[bool, asyncio.Task[Topic]] = {}
        self._dialing: set[asyncio.Task[Any]] = set()
        self._closed = False

    # -- requests ----------------------------------------------------------------------------------

    async def connection(self, address: Address, lane: str = "") -> Any:
        """An open connection to that broker. Raises `Disconnected`,
        `Unauthorized`, `WatchClosed`."""
        at = (address, lane)
        found = self._connections.get(at)
        if found is not None and found.connected():
            return found

        async with self._connecting.setdefault(at, asyncio.Lock()):
            found = self._connections.get(at)
            if found is not None and found.connected():
                return found

            access = self.access
            protocol = ("" if access.user is None else "SASL_") + (
                "PLAINTEXT" if access.tls is None else "SSL"
            )

            try:
                connection = Connection(
                    *address,
                    access.max_answer,
                    client_id="datasync",
                    request_timeout_ms=_NEVER_MS,  # each request is given its time here
                    security_protocol=protocol,
                    ssl_context=None if access.tls is None else access.tls.context(),
                    sasl_mechanism=access.sasl,
                    sasl_plain_username=access.user,
                    sasl_plain_password=access.password or "",
                )
                with errors.understanding(_text(address)):
                    made = await self._unless_closed(_connected(connection))
            except (OSError, KafkaError, TimeoutError, NotImplementedError) as error:
                known = errors.of_connecting(error, _text(address), tls=access.tls is not None)
                raise await explained(known, _text(address), *address, access.tls) from None

            self._connections[at] = made
            return made

    async def _unless_closed(self, connecting: Coroutine[Any, Any, Any]) -> Any:
        """The connection. Raises `WatchClosed` where this is closed, or is meanwhile."""
        task = asyncio.ensure_future(connecting)
        self._dialing.add(task)
        try:
            if not self._closed:
                await asyncio.wait((task,))
            if self._closed:
                raise self._is_closed()
            return task.result()
        except BaseException:
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled() and task.exception() is None:
                task.result().close()
            raise
        finally:
            self._dialing.discard(task)

    def _is_closed(self) -> WatchClosed:
        return WatchClosed(f"{self.name}: it has been closed; nothing was done")

    async def ask(
        self, address: Address, request: Any, lane: str = "", patience: float | None = None
    ) -> Any:
        """The answer of one broker, within `patience` seconds instead of the usual time where
        given. Raises what `kafka.errors.of_connection` makes of a failure."""
        try:
            async with asyncio.timeout(patience or self.access.timeout):
                connection = await self.connection(address, lane)
                return await connection.send(request)
        except (OSError, KafkaError, TimeoutError, NotImplementedError) as error:
            self.drop(address, lane)
            untrace(error)  # G9: the client keeps it in what its frames lead to
            raise errors.of_connection(error, _text(address)) from None

    def drop(self, address: Address, lane: str = "") -> None:
        """Close a connection that does not answer."""
        found = self._connections.pop((address, lane), None)
        if found is not None:
            found.close()

    async def aclose(self) -> None:
        """Close all connections; what is under way ends with `WatchClosed`. May be called twice."""
        self._closed = True
        ending = [*self._finding.values(), *self._dialing]
        for task in ending:
            task.cancel()
        try:
            if ending:
                await asyncio.wait(ending)
        finally:  # G12: if this is cancelled meanwhile, too
            open_ones, self._connections = list(self._connections.values()), {}
            for closing in [connection.close() for connection in open_ones]:
                if closing is not None:
                    await closing

    # -- the topic ---------------------------------------------------------------------------------

    @property
    def recent(self) -> Topic | None:
        """Where the topic was when it was looked up, unless that is long ago."""
        recently = asyncio.get_running_loop().time() - self._found_at <= _TOPIC_AGE
        return self._topic if recently else None

    async def topic(self, *, fresh: bool = False, create: bool = True) -> Topic:
        """Where the topic is. Makes it where that is asked for, here and in the URL.

        Raises `Disconnected`, `Unauthorized`; `BadStore` where the topic is missing.
        """
        now = asyncio.get_running_loop().time()
        if self._topic is None or fresh:
            self._topic = await self._found(create=create and self.access.create)
        elif now - self._found_at > _TOPIC_AGE:
            self._found_at = now
            with contextlib.suppress(Disconnected):  # what was known may still be right
                self._topic = await self._found(create=create and self.access.create)
        return self._topic

    async def _found(self, *, create: bool) -> Topic:
        """Look it up; all who want to know at a time share a request."""
        task = self._finding.get(create)
        if task is None or task.done():
            task = self._finding[create] = asyncio.ensure_future(self._find(create=create))
            # if nobody waits any more
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._closed:
                raise self._is_closed() from None
            raise

    async def leader(self, partition: int) -> Address:
        """Who leads that partition. Raises `PartitionGone`, and what `topic` raises."""
        leaders = (await self.topic()).leaders
        if partition >= len(leaders):
            raise errors.PartitionGone(
                f"{self.name}: the topic was recreated with fewer partitions; try again"
            )
        return leaders[partition]

    async def _made(self) -> Topic:
        """Make the topic, and wait until its partitions have leaders."""
        await self._create()
        deadline = asyncio.get_running_loop().time() + self.access.timeout
        while True:
            try:
                return await self._find(create=False)
            except (Disconnected, BadStore):
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(_PAUSE)

    async def look_again(self) -> None:
        """Find out who leads now, after a pause. Raises `Disconnected` where no broker answers."""
        await asyncio.sleep(_PAUSE)
        with contextlib.suppress(NoLeader):
            await self.topic(fresh=True, create=False)

    async def retrying(self, read: Callable[[], Awaitable[T]]) -> T:
        """The result of `read`, tried again for as long as a request may take
        while brokers answer: leaders move.

        Raises what the last try raised.
        """
        deadline = asyncio.get_running_loop().time() + self.access.timeout
        while True:
            try:
                return await read()
            except Disconnected:
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await self.look_again()

    async def any(self, request: Any) -> Any:
        """The answer of whichever broker answers first in turn; one that hangs
        leaves time for the others."""
        known = dict.fromkeys(
            [*(at for at, _ in self._connections), *self.access.brokers, *self._known.brokers]
        )
        failed: DataSyncError | None = None
        time = asyncio.get_running_loop().time
        deadline = time() + self.access.timeout
        for address in known:
            if failed is not None and time() > deadline:
                break
            try:
                async with asyncio.timeout(self.access.timeout / min(len(known), _TRIES)):
                    return await self.ask(address, request)
            except TimeoutError as error:
                self.drop(address)
                failed = failed or errors.of_connection(error, _text(address))
            except (Disconnected, BadStore) as error:
                failed = failed or error
        assert failed is not None
        raise failed

    async def coordinator(self, key: str, kind: int) -> Address:
        """The broker that coordinates the group (0) or the transactions (1) of that name.

        Raises `Disconnected`, `Unauthorized`, `BadStore`.
        """
        found = self._coordinators.get(key)
        deadline = asyncio.get_running_loop().time() + self.access.timeout
        while found is None:
            answer = await self.any(FindCoordinatorRequest(key, kind))
            if not answer.error_code:
                found = self._coordinators[key] = (answer.host, answer.port)
            elif answer.error_code in errors.LATER and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(_PAUSE)
            else:
                raise errors.of_code(answer.error_code, self.name, "finding a coordinator")
        return found

    def forget_coordinator(self, key: str) -> None:
        """It does not answer, or is not the coordinator any more."""
        self._coordinators.pop(key, None)

    async def _find(self, *, create: bool) -> Topic:
        access = self.access
        answer = await self.any(TopicMetadata(access.topic))
        with errors.understanding(self.name):
            nodes = {node: (host, port) for node, host, port, _, _ in answer.brokers}
            code, _, topic_id, _, partitions, _, _ = answer.topics[0]
            chosen = sorted(
                (index, leader, epoch) for _, index, leader, epoch, *_ in partitions or ()
            )
            if not code and not chosen:
                raise ValueError("a topic without partitions")

        self._known.brokers = dict.fromkeys(nodes.values())
        self._found_at = asyncio.get_running_loop().time()

        if code in errors.UNKNOWN_TOPIC:
            if self._known.topic:
                # it was deleted on purpose: `create` is for a topic that has never been there
                raise BadStore(f"{self.name} was deleted; make the topic again")
            if not create:
                raise BadStore(
                    f"{self.name} does not exist; make the topic, or add ?create=1 to the URL"
                )
            return await self._made()

        if code:
            raise errors.of_code(code, self.name, "finding the topic")
        self._known.topic = True

        if access.partition is not None:
            chosen = chosen[access.partition : access.partition + 1]
            if not chosen:
                raise BadStore(
                    f"{self.name} has no partition {access.partition}; it has {len(partitions)}, "
                    "from 0 on"
                )

        for index, leader, _ in chosen:
            if leader not in nodes:
                raise NoLeader(f"{self.name}: partition {index} has no leader now")
        numbers, leaders, epochs = zip(*chosen, strict=True)
        return Topic(topic_id, numbers, tuple(nodes[leader] for leader in leaders), epochs)

    async def _create(self) -> None:
        access = self.access
        wanted: Any = (
            access.topic,
            access.partitions,
            access.replication,
            [],
            [("cleanup.policy", "compact")],
        )
        request = CreateTopicsRequest([wanted], int(access.timeout * 1000), False)
        answer = await self.any(request)
        (_, code, text) = answer.topic_errors[0]
        if code and code != errors.Code.TOPIC_ALREADY_EXISTS:
            error = errors.of_code(code, self.name, "making the topic")
            raise error if not isinstance(error, BadStore) else BadStore(f"{error}: {text}")

    async def settings(self) -> Settings:
        """What the topic is set to; guesses on the safe side where that may not be
        read. Raises as `topic` does."""
        await self.topic()
        answer = await self.any(
            DescribeConfigsRequest([(_TOPIC_RESOURCE, self.access.topic, _SETTINGS)])
        )
        with errors.understanding(self.name):
            (code, _, _, _, entries) = answer.resources[0]
            found = {name: value for name, value, *_ in entries or ()}
            if code or not found:
                return Settings()
            return Settings(
                frozenset(found.get("cleanup.policy", "compact").replace(" ", "").split(",")),
                int(found["delete.retention.ms"]) / 1000
                if "delete.retention.ms" in found
                else None,
                int(found.get("max.message.bytes", Settings().largest)),
            )

    async def starts(self, topic: Topic) -> list[int]:
        """The first offset of each partition."""
        return await self._offsets(topic, _EARLIEST, 0)

    async def ends(self, topic: Topic, *, committed: bool = True) -> list[int]:
        """The offset after the last record of each partition; where `committed`, after the last
        one that no open transaction can still change."""
        return await self._offsets(topic, _LATEST, int(committed))

    async def acknowledged_ends(self, topic: Topic) -> list[int]:
        """As `ends`, of all that was acknowledged to anybody before: who commits a
        transaction hears so a moment before it is marked as committed. One that is open
        for longer is not waited for."""
        wanted = await self.ends(topic, committed=False)
        deadline = asyncio.get_running_loop().time() + _MARKED
        while True:
            stable = await self.ends(topic)
            reached = all(end >= want for end, want in zip(stable, wanted, strict=True))
            if reached or asyncio.get_running_loop().time() > deadline:
                return stable
            await asyncio.sleep(_PAUSE)

    async def _offsets(self, topic: Topic, which: int, isolation: int) -> list[int]:
        found = [0] * len(topic.leaders)
        for address, partitions in topic.by_leader(range(len(found))).items():
            wanted = [(topic.numbers[index], which) for index in partitions]
            answer = await self.ask(
                address, OffsetRequest(-1, isolation, [(self.access.topic, wanted)])
            )
            with errors.understanding(self.name):
                offsets = [
                    (topic.numbers.index(number), code, at)
                    for number, code, _, at, *_ in answer.topics[0][1]
                ]
            for index, code, offset in offsets:
                if code:
                    self._topic = None
                    raise errors.of_code(code, self.name, "asking for offsets")
                found[index] = offset
        return found


async def _connected(connection: Connection) -> Connection:
    await connection.connect()
    return connection


def _text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
