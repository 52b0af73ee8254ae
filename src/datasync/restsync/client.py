"""http://host:port - what another process serves over HTTP: an agent's `rest://`, or `datasync serve SOURCE --http`.

`https://` speaks TLS. `?timeout=5` bounds each answer, in seconds; docs/rest.md has the whole of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import ssl
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from datasync.capabilities import Capabilities
from datasync.errors import BadStore, BadUrl, DatasyncError, Disconnected, OutcomeUnknown, Unauthorized
from datasync.events import Verdict
from datasync.restsync._bodies import Page, operations_of, value_fields
from datasync.restsync._events import CAPABILITIES, Request
from datasync.restsync._problems import PROBLEM, NoSuchKey, Written, error_of
from datasync.restsync._session import HttpSession
from datasync.restsync._tls import client_context
from datasync.serving.access import Access
from datasync.serving.hub import UNTOLD
from datasync.source import Committed, Item, Operation, Result, Session, Source
from datasync.transports import Url, seconds

__all__ = ["HttpSource", "from_url"]

_CONNECTIONS = 64
_GRACE = 0.1
"""Seconds that answers to writes are waited for at the end."""
_VERDICT = 65.0
"""Seconds in which a server surely has the verdict, or gives it up."""
_BINARY = {"Accept": "application/octet-stream"}
_JSON = {"Content-Type": "application/json"}


def from_url(url: Url) -> HttpSource:
    """The server that the URL names."""
    access = Access.of_url(url, tls=url.scheme == "https")
    timeout = url.option("timeout", seconds, 5.0)
    return HttpSource(access, timeout)


class HttpSource(Source):
    """The keys that a server of `datasync.restsync` holds.

    Its capabilities are those of an exact store until the server has told what its own source can promise.
    """

    capabilities = UNTOLD
    relays = True

    def __init__(self, access: Access, timeout: float = 5.0) -> None:
        if access.key is not None and not access.tls:
            raise BadUrl(f"{access.name}: certificates are shown over https:// only")
        self.name = access.name
        self._access = access
        self._timeout = timeout
        self._base = f"{'https' if access.tls else 'http'}://{access.authority}/v1/"
        self._tls: ssl.SSLContext | bool = client_context(access) if access.tls else False
        self._writes: set[asyncio.Future[None]] = set()
        self._client: aiohttp.ClientSession | None = None
        self._streams: aiohttp.ClientSession | None = None

    # -- following -----------------------------------------------------------------------------------------------

    async def open(self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()) -> Session:
        asked = Request(list(scopes), resume, list(added))
        if self._streams is None:
            self._streams = self._session(0)
        response = await self._send(
            "POST", "events", msgspec.json.encode(asked), _JSON, unlimited=True, session=self._streams
        )
        if response.status != 200:
            raise await self._failed(response)
        if response.content_type != "text/event-stream":
            response.close()
            raise self._foreign(response.status)
        with contextlib.suppress(msgspec.MsgspecError):  # an older server tells nothing
            told = msgspec.json.decode(response.headers.get(CAPABILITIES, ""), type=Capabilities)
            # the verdicts come with the answers to writes; who follows from here is not asked by the server
            self.capabilities, self.relays = msgspec.structs.replace(told, reply=False), told.reply
        return HttpSession(self.name, response, self._ping)

    async def _ping(self, stream: str) -> None:
        status, _, data = await self._ask("POST", f"pings?stream={stream}", b"")
        if status != 200:
            raise error_of(status, data, self.name)

    # -- writing and reading -------------------------------------------------------------------------------------

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        path = "transactions" if reply else "transactions?confirm=false"
        body = msgspec.json.encode(operations_of(operations))
        # a POST, which the library never repeats by itself
        return await self._write("POST", path, body, _VERDICT if reply else 0.0)

    async def replace(self, items: Iterable[tuple[str, bytes]]) -> Committed:
        state = [{"key": key, **value_fields("value", raw)} for key, raw in items]
        return await self._write("PUT", "keys", msgspec.json.encode({"items": state}), _VERDICT)

    async def _write(self, method: str, path: str, body: bytes, wait: float) -> Committed:
        done = asyncio.get_running_loop().create_future()
        self._writes.add(done)
        try:
            status, kind, data = await self._ask(method, path, body, _JSON, wait=wait)
        finally:
            self._writes.discard(done)
            done.set_result(None)
        if kind != "application/json":
            raise error_of(status, data, self.name)
        written = msgspec.json.decode(data, type=Written)
        result = None if written.verdict is None else Result(Verdict(written.verdict), written.reasons)
        return Committed(written.revision, written.existed, result)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        response = await self._send("GET", "keys/" + quote(key, safe="/"), None, _BINARY)
        if response.status != 200:
            error = await self._failed(response)
            if isinstance(error, NoSuchKey):
                return None
            raise error
        data = await self._read(response)
        return data, int(response.headers.get("ETag", '"0"').strip('"'))

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        values = "false" if keys_only else "true"
        query = f"keys?prefix={quote(prefix, safe='')}&limit={min(limit, 10_000)}&values={values}"
        if token is not None:
            query += f"&cursor={token}"
        page = msgspec.json.decode(await self._told(query), type=Page)
        return [(item.key, item.raw, item.revision) for item in page.items], page.next

    async def status(self) -> bytes:
        """What the server shows at /v1/status, as JSON."""
        return await self._told("status")

    async def aclose(self) -> None:
        if self._writes:  # what has been done, though its answer is under way, should not count as unknown
            await asyncio.wait(self._writes, timeout=_GRACE)
        for session in (self._client, self._streams):
            if session is not None:
                await session.close()
        self._client = self._streams = None

    # -- the way there -------------------------------------------------------------------------------------------

    def _session(self, connections: int) -> aiohttp.ClientSession:
        token = self._access.token
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=self._tls),
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        wait: float = 0.0,
        unlimited: bool = False,
        session: aiohttp.ClientSession | None = None,
    ) -> aiohttp.ClientResponse:
        """The head of the answer. `wait`: seconds that it may take beside the time-out."""
        if session is None:
            if self._client is None:
                self._client = self._session(_CONNECTIONS)
            session = self._client
        # not `total`: that would count the wait for a connection that is free
        read = None if unlimited else self._timeout + wait
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout, sock_read=read)
        try:
            return await session.request(
                method, URL(self._base + path, encoded=True),
                data=None if body is None else io.BytesIO(body),  # bytes would be warned of where they are many
                headers=headers, timeout=limits, allow_redirects=False,
            )  # fmt: skip
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise Unauthorized(f"{self.name}: no TLS with it ({_why(error)}); see ca=, cert= and key=") from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Disconnected(f"{self.name}: {_why(error)}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if method == "GET" or unlimited:
                # with TLS 1.3 a server learns only behind the handshake who the client is, and may just hang up
                hint = "; it may want another certificate, cert= and key=" if self._access.tls else ""
                raise Disconnected(f"{self.name}: {_why(error)}{hint}") from None
            raise OutcomeUnknown(f"{self.name}: {_why(error)}; read the keys to know") from None

    async def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None,
        *, wait: float = 0.0,
    ) -> tuple[int, str, bytes]:  # fmt: skip
        """Status, content type and body of the answer."""
        response = await self._send(method, path, body, headers, wait=wait)
        try:
            data = await self._read(response)
        except Disconnected as error:
            if method == "GET":
                raise
            raise OutcomeUnknown(f"{error}; read the keys to know") from None
        if response.status == 404 and response.content_type != PROBLEM:
            raise self._foreign(404)
        return response.status, response.content_type, data

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Disconnected(f"{self.name}: {_why(error)}") from None

    async def _told(self, path: str) -> bytes:
        """The JSON at a path."""
        response = await self._send("GET", path)
        if response.status != 200:
            raise await self._failed(response)
        if response.content_type != "application/json":
            response.close()
            raise self._foreign(response.status)
        return await self._read(response)

    async def _failed(self, response: aiohttp.ClientResponse) -> DatasyncError:
        """What an answer that is no success means."""
        data = await self._read(response)
        if response.content_type != PROBLEM:
            return self._foreign(response.status)
        return error_of(response.status, data, self.name)

    def _foreign(self, status: int) -> DatasyncError:
        """What an answer to a read means that is none of datasync."""
        if status in (502, 503, 504):
            return Disconnected(f"{self.name}: a gateway before it answers that it cannot be reached (status {status})")
        return BadStore(f"{self.name} answers, but does not serve datasync; see that the URL is right")


def _why(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    cause = getattr(error, "os_error", None) or error
    number = getattr(cause, "errno", None)
    return (os.strerror(number) if number and number > 0 else "") or str(cause) or type(cause).__name__
