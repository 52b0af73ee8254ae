"""http://host:port - what another process serves over HTTP: an agent's `rest://`, its status
page, or `datasync serve SOURCE --http`; http://host:port/path where an application mounts it there.

`https://` speaks TLS. `?timeout=5` bounds the wait for each answer, in seconds, and `max_answer=`
the size of each answer and event, in bytes; docs/rest.md has the whole of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from datasync.capabilities import Capabilities
from datasync.certificates import encryption_findings
from datasync.codec.shared import UNDECODABLE
from datasync.endpoints import MAX_ANSWER, max_answer
from datasync.errors import BadUrl, Disconnected, OutcomeUnknown
from datasync.findings import Finding, Severity, clock_finding
from datasync.restsync._bodies import Page, operations_of, value_fields
from datasync.restsync._calls import Calls
from datasync.restsync._events import CAPABILITIES, CaughtUp, Request
from datasync.restsync._problems import NoSuchKey, Written, error_of
from datasync.restsync._session import HttpSession
from datasync.serving.access import Access
from datasync.serving.followed import Followed
from datasync.serving.hub import ASSUMED_CAPABILITIES
from datasync.source import Committed, Item, Operation, Session, Source
from datasync.texts import printable
from datasync.transports import Url, seconds

__all__ = ["HttpSource", "from_url"]

_GRACE = 0.1
"""Seconds that answers to writes are waited for at the end."""
_CATCH_UP = 5.0
"""Seconds in which a server has heard from its own source, or gives it up."""
_VERDICT = 65.0
"""Seconds in which a server surely has the verdict, or gives it up."""
_ANSWER = 60.0
"""Seconds in which a part of an application answers, or is given up."""
_BINARY = {"Accept": "application/octet-stream"}


def from_url(url: Url) -> HttpSource:
    """The server that the URL names. Raises `BadUrl`."""
    if "/v1/keys" in url.path:  # G10: a write there would make a key that begins with v1/keys/
        raise BadUrl(f"{url}: it ends in the path of a request; write what stands before /v1")
    access = Access.of_url(url, tls=url.scheme == "https", mounted=True)
    timeout = url.option("timeout", seconds, 5.0)
    return HttpSource(access, timeout, max_answer(url))


class _Told(msgspec.Struct):
    """What of a status is asked for here."""

    version: str
    now: float
    ready: bool


class HttpSource(Source):
    """The keys that a server of `datasync.restsync` holds.

    Its capabilities are those of an exact store until the server has told
    what its own source can promise.
    """

    capabilities = ASSUMED_CAPABILITIES
    forwards_verdicts = True

    def __init__(self, access: Access, timeout: float = 5.0, most: int = MAX_ANSWER) -> None:
        self.name = access.name
        self._access = access
        self._most = most
        self._calls = Calls(access, timeout, most)
        self._writes: set[asyncio.Future[None]] = set()

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        asked = Request(list(scopes), resume, list(added))
        response = await self._calls.stream("events", msgspec.json.encode(asked))
        with contextlib.suppress(*UNDECODABLE):  # an older server tells nothing
            told = msgspec.json.decode(response.headers.get(CAPABILITIES, ""), type=Capabilities)
            # the verdicts come with the answers to writes; who follows from
            # here is not asked by the server
            self.capabilities = msgspec.structs.replace(told, reply=False)
            self.forwards_verdicts = told.reply
        followed = Followed(self.name, self.capabilities)
        return HttpSession(self.name, response, self._most, followed, self._ping, self._catch_up)

    async def _ping(self, stream: str) -> None:
        await self._calls.tell(f"pings?stream={stream}")

    async def _catch_up(self, stream: str) -> str | None:
        answer = await self._calls.tell(f"catch-ups?stream={stream}", wait=_CATCH_UP)
        return self._calls.decoded(answer, CaughtUp).position

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        path = "transactions" if reply else "transactions?confirm=false"
        body = msgspec.json.encode(operations_of(operations))
        # a POST, which the library never repeats by itself
        return await self._write("POST", path, body, verdict=reply)

    async def replace(self, items: Iterable[tuple[str, bytes]]) -> Committed:
        state = [{"key": key, **value_fields("value", raw)} for key, raw in items]
        return await self._write("PUT", "keys", msgspec.json.encode({"items": state}), verdict=True)

    async def _write(self, method: str, path: str, body: bytes, *, verdict: bool) -> Committed:
        done = asyncio.get_running_loop().create_future()
        self._writes.add(done)
        try:
            if verdict:
                answer = await self._calls.ask(method, path, body, wait=_VERDICT, lane="verdicts")
            else:
                answer = await self._calls.ask(method, path, body)
        finally:
            self._writes.discard(done)
            done.set_result(None)
        if not answer.headers.get("Content-Type", "").startswith("application/json"):
            raise error_of(answer.status, answer.data, self.name)
        try:
            written = self._calls.decoded(answer, Written)
        except Disconnected as error:
            raise OutcomeUnknown(f"{error}; read the keys to know") from None
        return Committed(written.revision, written.existed, written.result())

    async def get(self, key: str) -> tuple[bytes, int] | None:
        try:
            answer = await self._calls.read("keys/" + quote(key, safe="/"), _BINARY)
        except NoSuchKey:
            return None
        try:
            return answer.data, int(answer.headers.get("ETag", '"0"').removeprefix("W/").strip('"'))
        except ValueError:
            raise Disconnected(
                f"{self.name}: the ETag is not a revision; see what stands before it"
            ) from None

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        values = "false" if keys_only else "true"
        query = f"keys?prefix={quote(prefix, safe='')}&limit={min(limit, 10_000)}&values={values}"
        if token is not None:
            query += f"&cursor={token}"
        page = self._calls.decoded(await self._calls.read(query), Page)
        try:
            return [(item.key, item.raw, item.revision) for item in page.items], page.next
        except ValueError as error:
            raise Disconnected(
                f"{self.name}: a value is not understood ({error}); check the server"
            ) from None

    async def diagnose(self, key: str) -> Sequence[Finding]:
        asked = time.time()
        data, answered = await self.status(), time.time()
        with contextlib.suppress(*UNDECODABLE):
            said = msgspec.json.decode(data, type=_Told)
            found = [
                Finding("server", Severity.OK, f"datasync {printable(said.version)}"),
                clock_finding(self.name, said.now, asked, answered),
            ]
            if not said.ready:
                found.append(
                    Finding(
                        "state",
                        Severity.WARNING,
                        "the server has not got its whole state yet",
                        "see: datasync status; an agent wants its first whole state",
                    )
                )
            return [*found, *await self._encryption()]
        raise Disconnected(f"{self.name}: its status is not understood; ask one of this version")

    async def _encryption(self) -> list[Finding]:
        access = self._access
        return await encryption_findings(
            access.host, access.port, access.files, secret=access.token is not None
        )

    async def status(self) -> bytes:
        """What the server shows at /v1/status, as JSON."""
        return (await self._calls.read("status")).data

    async def ask(self, panel: str, question: str, body: bytes) -> bytes:
        """What a panel of the application answers, as JSON."""
        path = f"panels/{quote(panel, safe='')}/{quote(question, safe='')}"
        return (await self._calls.tell(path, body, wait=_ANSWER)).data

    async def aclose(self) -> None:
        # what has been done, though its answer is under way, should not count as unknown
        await self._calls.aclose(self._writes, _GRACE)
