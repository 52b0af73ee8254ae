"""Requests of a client: how they reach the server, and what an answer means
that is not one of datasync."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import aiohttp
import msgspec
from yarl import URL

from datasync import traceparent
from datasync.certificates import explained
from datasync.codec.shared import UNDECODABLE
from datasync.connecting import foreign, hung_up, no_answer, not_connected, too_large
from datasync.endpoints import SLOWEST
from datasync.errors import (
    AnswerTooLarge,
    DataSyncError,
    Disconnected,
    OutcomeUnknown,
    Unauthorized,
    WatchClosed,
)
from datasync.restsync._problems import MARK, STREAMED, error_of
from datasync.serving.access import Access

__all__ = ["JSON", "Answer", "Calls"]

T = TypeVar("T")

_PROTOCOL = "datasync"
JSON = {"Content-Type": "application/json"}

Lane = Literal["calls", "verdicts", "streams"]
_WIDTH = 64
"""Requests of a lane that are under way at a time."""
_ASKED = "identity"
"""The content encoding that is asked for: a stream, once packed, might be held back."""
_READ = ("", _ASKED, "gzip", "deflate")
"""Those that are read: some gateways pack an answer whatever they were asked for."""
_WANTS_CREDENTIALS = (401, 403, 407, 511)
"""What gateways say that let nobody through without credentials."""


class Answer(NamedTuple):
    """A whole answer of a server of ours: status, headers, body."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class _Connector(aiohttp.TCPConnector):
    """Knows its connections, to cut them."""

    def __init__(self) -> None:
        super().__init__(limit=0)
        self._open: set[asyncio.Transport] = set()

    async def connect(self, *args: Any, **more: Any) -> Any:
        # G12: aiohttp sends a read again whose connection was cut
        if self.closed:
            raise aiohttp.ClientConnectionError("closed")
        connection = await super().connect(*args, **more)
        transport = connection.transport
        if transport is not None and transport not in self._open:
            self._open = {known for known in self._open if not known.is_closing()} | {transport}
        return connection

    def abort(self) -> None:
        """Cut all connections."""
        for transport in self._open:
            transport.abort()
        self._open.clear()


class _Lane:
    """Connections for one purpose, so that what has to wait for long holds up nothing else.

    A caller that waits for its turn has not made its request yet: thousands made at once would stop
    the loop for so long that the first ones time out.
    """

    def __init__(self, session: aiohttp.ClientSession, connector: _Connector) -> None:
        self.session = session
        self.closed = False
        """Nothing more is sent."""
        self._connector = connector
        self._turns = asyncio.Semaphore(_WIDTH)
        self._waiting = 0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Within the block one may ask. Raises `WatchClosed`."""
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            # what else begins in this turn of the loop does not count as time for an answer
            await asyncio.sleep(0)
            if self.closed:
                raise WatchClosed("closed before it was sent; nothing was done")
            yield
        finally:
            self._turns.release()

    def close(self) -> None:
        """G10: what has not been sent never is; callers that wait for a turn hear so at once."""
        self.closed = True
        for _ in range(self._waiting):
            self._turns.release()

    async def aclose(self) -> None:
        """Cut what is under way, and close the connections: none goes on sending
        what a server does not read."""
        self._connector.abort()
        # the connector alone: sending a read again, aiohttp may ask a closed session for the one it
        # no longer has
        await self._connector.close()


class Calls:
    """The way to one server. `timeout` bounds the wait for each answer, in seconds,
    and `most` its size, in bytes."""

    def __init__(self, access: Access, timeout: float, most: int) -> None:
        self._access = access
        self._name = access.name
        self._timeout = timeout
        self._most = most
        scheme = "http" if access.files is None else "https"
        self._base = f"{scheme}://{access.authority}{access.path}/v1/"
        self._lanes: dict[Lane, _Lane] = {}

    async def stream(self, path: str, body: bytes) -> aiohttp.ClientResponse:
        """POST, and the head of an answer that has no end. Raises what its error means."""
        async with self._reading():
            response = await self._send(self._lane("streams"), "POST", path, body, JSON, None)
            told = response.headers.get(MARK)
            if told == STREAMED and response.status == 200 and _encoding(response) in _READ:
                return response
            if told is not None and told != STREAMED:
                raise self._refusal(await self._whole(response))
            response.close()  # it may have no end
            raise self._foreign(response) if told is None else self._packed(response)

    async def read(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET, and the answer. Raises what any other than a success means."""
        async with self._reading():
            answer = await self._take("calls", "GET", path, None, headers, 0.0)
        if answer.status != 200:
            raise self._refusal(answer)
        return answer

    async def tell(self, path: str, body: bytes = b"", *, wait: float = 0.0) -> Answer:
        """POST of what changes nothing. Raises as `read` does."""
        async with self._reading():
            answer = await self._take("streams", "POST", path, body, JSON, wait)
        if answer.status != 200:
            raise self._refusal(answer)
        return answer

    async def ask(
        self, method: str, path: str, body: bytes, *, wait: float = 0.0, lane: Lane = "calls"
    ) -> Answer:
        """The answer to a write, whatever it is. `wait`: seconds that it
        may take beside the time-out.

        Raises `OutcomeUnknown`, `Unauthorized`, `Disconnected`.
        """
        try:
            trace = traceparent.carried()
            headers = JSON if trace is None else JSON | {traceparent.HEADER: trace}
            return await self._take(lane, method, path, body, headers, wait)
        except (_Broken, AnswerTooLarge) as error:
            raise OutcomeUnknown(f"{error}; read the keys to know") from None

    def decoded(self, answer: Answer, kind: type[T]) -> T:
        """The JSON of an answer. Raises `Disconnected` where it is not of that form."""
        try:
            return msgspec.json.decode(answer.data, type=kind)
        except UNDECODABLE as error:
            raise Disconnected(
                f"{self._name}: the answer is not understood ({error}); see that the server is not "
                "newer than this client"
            ) from None

    async def aclose(self, writes: Collection[asyncio.Future[None]], grace: float) -> None:
        """Send nothing more, give the answers to `writes` `grace` seconds, and cut all connections.
        A later request opens others."""
        lanes, self._lanes = self._lanes, {}
        for lane in lanes.values():
            lane.close()
        try:
            if writes:
                await asyncio.wait(writes, timeout=grace)
        finally:
            async with contextlib.AsyncExitStack() as closing:
                # each, though one of them is cancelled
                for lane in lanes.values():
                    closing.push_async_callback(lane.aclose)

    def _lane(self, name: Lane) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None:
            token = self._access.token
            connector = _Connector()
            session = aiohttp.ClientSession(
                connector=connector,
                headers={"Accept-Encoding": _ASKED}
                | ({} if token is None else {"Authorization": f"Bearer {token}"}),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            lane = self._lanes[name] = _Lane(session, connector)
        return lane

    async def _take(
        self,
        name: Lane,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        wait: float,
    ) -> Answer:
        lane = self._lane(name)
        async with lane.turn():
            try:
                return await self._whole(
                    await self._send(lane, method, path, body, headers, self._timeout + wait)
                )
            except _Broken:
                if lane.closed:  # it was cut from this side
                    raise _Closed(f"{self._name}: closed before the answer came") from None
                raise

    async def _send(
        self, lane: _Lane, method: str, path: str, body: bytes | None,
        headers: Mapping[str, str] | None,
        seconds: float | None,
    ) -> aiohttp.ClientResponse:  # fmt: skip
        """The head of the answer; `seconds` bounds the wait for it, None: nothing does."""
        files = self._access.files
        # an upload takes its time, and so does a connection
        head = None if seconds is None else self._timeout + seconds + len(body or b"") / SLOWEST
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout, sock_read=seconds)

        try:
            async with asyncio.timeout(head):
                return await lane.session.request(
                    method, URL(self._base + path, encoded=True),
                    # bytes would be warned of where they are many; an empty body would get a
                    # task whose error nobody hears
                    data=io.BytesIO(body) if body else None,
                    headers=headers, timeout=limits, allow_redirects=False,
                    ssl=True if files is None else files.context(),  # of the files as they are now
                )  # fmt: skip
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            if lane.closed:
                raise WatchClosed(
                    f"{self._name}: closed before it was sent; nothing was done"
                ) from None
            if isinstance(error, TimeoutError):
                raise no_answer(self._name, _PROTOCOL) from None
            raise not_connected(
                _cause(error), self._name, _PROTOCOL, tls=files is not None
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._broken(error) from None

    async def _whole(self, response: aiohttp.ClientResponse) -> Answer:
        """The whole answer. Raises `_Broken` or `Unauthorized` where it is not one of a server of
        ours, and `AnswerTooLarge`."""
        try:
            data = await self._body(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._broken(error) from None
        # G10: a gateway may answer in its place, with any status and any
        # body, or pass on only a part
        told = response.headers.get(MARK)
        if told == str(len(data)):
            return Answer(response.status, response.headers, data)
        if _encoding(response) not in _READ:
            raise self._packed(response)
        if told is not None:
            raise _Broken(
                f"{self._name}: only a part of the answer came, or it was changed; see what stands "
                "before it"
            )
        raise self._foreign(response)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        if (response.content_length or 0) > self._most:
            response.close()
            raise too_large(self._name, self._most)
        parts: list[bytes] = []
        size = 0
        due = asyncio.get_running_loop().time() + self._timeout
        try:
            async with asyncio.timeout_at(due) as patience:
                async for part in response.content.iter_any():
                    size += len(part)
                    if size > self._most:
                        raise too_large(self._name, self._most)
                    parts.append(part)
                    patience.reschedule(due + size / SLOWEST)
        except BaseException:
            response.close()  # what is left of it is not read
            raise
        return b"".join(parts)

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        """What breaks off in the block changes nothing: it is `Disconnected`, or that a
        certificate is not accepted, or `WatchClosed`."""
        try:
            yield
        except _Closed as closed:
            raise WatchClosed(str(closed)) from None
        except _Broken as broken:
            access, error = self._access, Disconnected(str(broken))
            raise await explained(
                error, self._name, access.host, access.port, access.files
            ) from None

    def _broken(self, error: Exception) -> _Broken:
        """What it means that no whole answer came."""
        name, tls = self._name, self._access.files is not None
        if isinstance(error, TimeoutError):
            return _Broken(str(no_answer(name, _PROTOCOL)))
        if isinstance(error, aiohttp.ClientResponseError):
            return _Broken(str(foreign(name, _PROTOCOL, "no HTTP")))
        if isinstance(error, ConnectionError | aiohttp.ServerDisconnectedError):
            # with TLS 1.3 a server learns only after the handshake who the
            # client is, and may just hang up
            return _Broken(str(hung_up(name, _PROTOCOL, tls=tls)))
        return _Broken(str(not_connected(_cause(error), name, _PROTOCOL, tls=tls)))

    def _foreign(self, response: aiohttp.ClientResponse) -> _Broken | Unauthorized:
        """What an answer without our mark means."""
        seen = f"status {response.status}, {response.content_type}, without the header {MARK!r}"
        text = (
            f"{foreign(self._name, _PROTOCOL, seen)}, and that the server is not older than "
            "this client"
        )
        return Unauthorized(text) if response.status in _WANTS_CREDENTIALS else _Broken(text)

    def _packed(self, response: aiohttp.ClientResponse) -> _Broken:
        return _Broken(
            f"{self._name}: the answer is packed ({_encoding(response)}), though that was not "
            "asked for; see what stands before it"
        )

    def _refusal(self, answer: Answer) -> DataSyncError:
        """What an answer of ours means that is not a success, to a request that changes nothing."""
        error = error_of(answer.status, answer.data, self._name)
        return Disconnected(str(error)) if isinstance(error, OutcomeUnknown) else error


class _Broken(Exception):
    """The connection broke off with the request under way: a write may have been done.
    It does not leave this file."""


class _Closed(_Broken):
    """This side broke it off, for it was closed."""


def _encoding(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("Content-Encoding", "").strip().lower()


def _cause(error: Exception) -> Exception:
    """What aiohttp wraps."""
    wrapped = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    return wrapped if isinstance(wrapped, Exception) else error
