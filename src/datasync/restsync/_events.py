"""The stream of events: what a hub brings a watcher, as server-sent events
(the HTML standard, section 9.2).

snapshot-begin, snapshot-chunk…, snapshot-end; then commit and progress. The `id` of the last three
is the position to come back with, in the header Last-Event-ID.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from datasync.capabilities import Capabilities
from datasync.checks import check_prefix
from datasync.errors import Disconnected, HistoryLost
from datasync.restsync._bodies import decode, item_of, value_fields
from datasync.restsync._limits import Limits
from datasync.restsync._problems import Problem
from datasync.restsync._requests import Exchange, header_text, needs_json, not_allowed, number
from datasync.restsync._unsent import parts
from datasync.scopes import is_prefix
from datasync.serving.followed import STREAM
from datasync.serving.hub import Hub, Subscription
from datasync.serving.log import CommitLog, Encode
from datasync.source import Commit, Frame, Progress, SnapshotBegin, SnapshotChunk, SnapshotEnd

__all__ = [
    "BEGIN",
    "CAPABILITIES",
    "CHUNK",
    "COMMIT",
    "END",
    "PROGRESS",
    "CaughtUp",
    "Events",
    "Request",
]

CAPABILITIES = "datasync-capabilities"
"""The header that tells what the source can promise."""
_PAGE = b"datasync-page"
"""The header by which the status page says that a stream is its own: it is not a remote watcher."""
BEGIN, CHUNK, END, COMMIT, PROGRESS = (
    "snapshot-begin",
    "snapshot-chunk",
    "snapshot-end",
    "commit",
    "progress",
)

_HEAD = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),  # a proxy that collects would hold back what is new
)
_HELLO = b": datasync\nretry: 1000\n\n"
_BEAT = b":\n\n"
_LARGE = 32 << 10
_REQUEST = 16 << 20
_HEARTBEAT = 15.0
_PATIENCE = 5.0
_json = msgspec.json.Encoder()


def _encoder(log: CommitLog) -> Encode[bytes]:
    """From a frame to one event."""

    def encode(frame: Frame) -> bytes:
        match frame:
            case Commit(position, revision, changes):
                before = log.before(position)
                told = [_change(key, raw, before.get(key)) for key, raw in changes]
                return _event(COMMIT, {"revision": revision, "changes": told}, position)
            case Progress(position, revision):
                return _event(PROGRESS, {"revision": revision}, position)
            case SnapshotChunk(items):
                return _event(CHUNK, {"items": [item_of(*item) for item in items]})
            case SnapshotBegin(scopes):
                return _event(BEGIN, {"scopes": list(scopes)})
            case SnapshotEnd(position, revision, history):
                return _event(END, {"revision": revision, "history": history}, position)

    return encode


def _change(key: str, raw: bytes | None, before: bytes | None) -> dict[str, Any]:
    change: dict[str, Any] = {"op": "delete" if raw is None else "put", "key": key}
    if raw is not None:
        change.update(value_fields("value", raw))
    if before is not None:
        change.update(value_fields("prev", before))
    return change


def _event(name: str, data: object, position: str = "") -> bytes:
    mark = f"id: {position}\n" if position else ""
    return f"event: {name}\n{mark}data: ".encode() + _json.encode(data) + b"\n\n"


class Request(msgspec.Struct, omit_defaults=True):
    """What a DataSync asks for; see `Source.open`."""

    scopes: list[str]
    resume: str | None = None
    added: list[str] = []


_requests = msgspec.json.Decoder(Request)


class CaughtUp(msgspec.Struct):
    """Where a stream has to be to have all that was acknowledged; None
    where there is nothing to have."""

    position: str | None


class Events:
    """/v1/events: GET for everybody, POST for a DataSync that follows. watched: a DataSync in this
    process follows the source too, whose verdicts the answers to writes bring."""

    def __init__(self, hub: Hub, limits: Limits, *, watched: bool) -> None:
        self._hub = hub
        self._watched = watched
        # one function for all streams, so that they share what it made
        self._encode = _encoder(hub.log)
        self._limits = limits
        self._streams: dict[str, _Stream] = {}
        self._ending = False

    async def follow(self, exchange: Exchange) -> None:
        """Send events until the client has gone, or reads nothing for too long."""
        if exchange.method not in ("GET", "POST"):
            raise not_allowed("GET, POST")
        if self._ending:
            raise Problem(
                503,
                "Disconnected",
                "the server is shutting down; try again later",
                ((b"retry-after", b"1"),),
            )

        subscription, beat = await self._subscribe(exchange)
        if self.streams >= self._limits.streams:
            raise Problem(
                429, "TooManyStreams", f"{self.streams:,} streams are open; try again later"
            )

        name = secrets.token_urlsafe(12)
        stream = self._streams[name] = _Stream(exchange, subscription, beat, self._limits.stalled)

        try:
            await stream.run(
                (
                    (STREAM.encode(), name.encode()),
                    (CAPABILITIES.encode(), _json.encode(self._promised())),
                )
            )
        finally:
            del self._streams[name]
            await subscription.aclose()

    def end(self) -> None:
        """End all streams, and begin none, until `begin`: the server ends once they have."""
        self._ending = True
        for stream in self._streams.values():
            stream.end()

    def begin(self) -> None:
        """Streams may begin."""
        self._ending = False

    def _promised(self) -> Capabilities:
        """What the source can promise, here with the verdicts on writes."""
        source = self._hub.source
        reply = source.forwards_verdicts or (self._watched and source.capabilities.reply)
        return msgspec.structs.replace(self._hub.capabilities, reply=reply)

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    async def ping(self, exchange: Exchange) -> None:
        """POST /v1/pings?stream=...: send a sign of life on that stream, so that its
        watcher knows that it stands."""
        stream = self._named(exchange)
        try:
            async with asyncio.timeout(_PATIENCE):
                await stream.beat()
        except TimeoutError:
            raise Problem(503, "Disconnected", "the stream is not read") from None
        await exchange.answer_json({"sent": True})

    async def catch_up(self, exchange: Exchange) -> None:
        """POST /v1/catch-ups?stream=...: wait for all that the source has acknowledged up to now,
        and have the stream tell how far it is. Answers with the position that has all of it, null
        where there is nothing yet."""
        stream = self._named(exchange)
        try:
            async with asyncio.timeout(_PATIENCE):
                position = await self._hub.catch_up()
        except TimeoutError:
            raise Problem(
                503, "Disconnected", f"{self._hub.source.name} does not answer now"
            ) from None
        stream.wake()
        await exchange.answer_json(CaughtUp(position))

    def _named(self, exchange: Exchange) -> _Stream:
        """The stream that a POST names. Raises `Problem`."""
        if exchange.method != "POST":
            raise not_allowed("POST")
        stream = self._streams.get(exchange.query("stream").one("stream") or "")
        if stream is None:
            raise Problem(404, "NoSuchStream", "the stream is not open any more; begin another")
        return stream

    async def _subscribe(self, exchange: Exchange) -> tuple[Subscription[bytes], float]:
        if exchange.method == "GET":
            return self._of_query(exchange)
        exchange.query()
        needs_json(exchange)
        return await self._of_body(exchange, await exchange.body(_REQUEST))

    async def _of_body(self, exchange: Exchange, body: bytes) -> tuple[Subscription[bytes], float]:
        """What a DataSync asks for: any number of scopes, and to be told where it cannot go on."""
        asked = decode(_requests, body)
        if asked.resume is not None:
            await self._hub.prove(asked.resume)
        return self._hub.subscribe(
            asked.scopes, asked.resume, asked.added, encode=self._encode, peer=_peer(exchange)
        ), _HEARTBEAT

    def _of_query(self, exchange: Exchange) -> tuple[Subscription[bytes], float]:
        query = exchange.query("prefix", "key", "from", "heartbeat")
        beat = number(query, "heartbeat", _HEARTBEAT, 0.1, 60.0)

        prefixes, keys = query.all("prefix"), query.all("key")
        for prefix in prefixes:
            check_prefix(prefix)
        for key in keys:
            if is_prefix(key):
                raise Problem(
                    400, "BadKey", f"{key!r} is not a single key; a prefix goes into prefix="
                )
        scopes = list(dict.fromkeys([*prefixes, *keys])) or [""]

        peer, shown = _peer(exchange), _PAGE not in exchange.headers
        begin = query.one("from")
        if begin not in (None, "now", "snapshot"):
            raise Problem(400, "BadQuery", f"from= takes now or snapshot, not {begin!r}")

        last = header_text(exchange.headers, b"last-event-id")
        if last:
            try:
                return self._hub.subscribe(
                    scopes, last, encode=self._encode, peer=peer, shown=shown
                ), beat
            except HistoryLost:
                # a client that comes back has missed something, whatever it asked for at first
                begin = "snapshot"

        now = self._hub.log.position(self._hub.log.seq) if begin == "now" else None
        return self._hub.subscribe(scopes, now, encode=self._encode, peer=peer, shown=shown), beat


def _peer(exchange: Exchange) -> str:
    """The address of the client, as far as the server knows it."""
    client = exchange.scope.get("client")
    if not client:
        return ""
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Stream:
    """One watcher: its events, and beside them a sign of life, and the look-out for its end."""

    def __init__(
        self, exchange: Exchange, events: Subscription[bytes], beat: float, stalled: float
    ) -> None:
        self._exchange = exchange
        self._events = events
        self._beat = beat
        self._stalled = stalled
        self._busy_since: float | None = None
        self._told = 0.0
        self._turn = asyncio.Lock()
        """Held while an event is sent in parts, between which nothing else may come."""
        self._ended = asyncio.Event()

    async def run(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send until either side ends it."""
        await self._exchange.begin(200, [*_HEAD, *headers])
        await self._exchange.write(_HELLO)
        sender = asyncio.ensure_future(self._send())
        lookout = asyncio.ensure_future(self._look_out())
        ended = asyncio.ensure_future(self._ended.wait())
        tasks = (sender, lookout, ended)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in (sender, lookout):
            if not task.cancelled():
                task.result()
        if self._ended.is_set():
            async with asyncio.timeout(_PATIENCE):
                await self._exchange.write(b"", more=False)

    async def _send(self) -> None:
        write, now = self._exchange.write, asyncio.get_running_loop().time
        try:
            async for events in self._events:
                if events:
                    data = b"".join(events)
                    async with self._turn:
                        for part in parts(data):
                            self._busy_since = self._told = now()
                            await write(part)
                        self._busy_since = None
                    if len(data) > _LARGE:
                        # while the socket takes it all, nothing waits: let the others have their
                        # turn
                        await asyncio.sleep(0)
        except Disconnected:
            # the hub is closed: the client comes back, or goes elsewhere
            await self._exchange.write(b"", more=False)

    def end(self) -> None:
        """End the answer, as soon as may be."""
        self._ended.set()

    def wake(self) -> None:
        """Send what is due, a bookmark too."""
        self._events.wake()

    async def beat(self) -> None:
        """Send a sign of life."""
        async with self._turn:
            await self._exchange.write(_BEAT)

    async def _look_out(self) -> None:
        """Return when the client has gone or does not read; send a sign of life
        where nothing else is sent."""
        gone = asyncio.ensure_future(self._exchange.gone())
        now = asyncio.get_running_loop().time
        try:
            while not gone.done():
                await asyncio.wait((gone,), timeout=self._beat)
                busy = self._busy_since
                if busy is not None and now() - busy > self._stalled:
                    self._exchange.let_go()
                    return
                if busy is None and now() - self._told >= self._beat / 2 and not gone.done():
                    async with asyncio.timeout(self._stalled):
                        await self.beat()
        except TimeoutError:
            self._exchange.let_go()
        finally:
            gone.cancel()
            await asyncio.wait((gone,))
