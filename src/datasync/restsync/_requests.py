"""Taking a request apart, with its limits: query, headers, body; and sending the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from datasync.restsync._limits import Limits
from datasync.restsync._problems import MARK, STREAMED, Problem, json_of
from datasync.restsync._unsent import PART, Answers
from datasync.serving.incoming import Incoming

__all__ = [
    "ABORT", "JSON", "STREAMS", "Exchange", "Query", "Receive", "Send", "flag",
    "header_text", "is_said_to_be_json", "needs_json", "not_allowed", "number",
]  # fmt: skip

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = b"application/json"
_DISCARDED, _LINGER = 128 << 20, 30.0
"""Bytes of a body that is not wanted, and seconds, for which it is read and thrown away."""
ABORT = "datasync.abort"
STREAMS = "datasync.streams"
"""What a `Listener` calls, in the state of a request, that which cuts its connection, and that
which hears that its answer has no end."""
_MARK = MARK.encode()
_SAME_ORIGIN = (b"cross-origin-resource-policy", b"same-origin")
"""G11: what the page of another origin embeds is an error there, whatever it says: it
learns nothing of the keys."""


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_body_read",
        "_held",
        "_incoming",
        "_receive",
        "_send",
        "_unsent",
        "headers",
        "limits",
        "method",
        "scope",
        "status",
    )

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
        limits: Limits,
        unsent: Answers,
        incoming: Incoming,
    ) -> None:
        self.scope = scope
        self.limits = limits
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            # one that stands twice is a list; neither part counts alone
            known = self.headers.get(name)
            self.headers[name] = value if known is None else b"%b, %b" % (known, value)
        self.status = 0
        self._body_read = False
        self._held = 0
        """Bytes of the body that count among those of all."""
        self._incoming = incoming
        self._receive = receive
        self._send = send
        self._unsent = unsent

    def query(self, *known: str) -> Query:
        """The query; only `known` names are allowed in it. Raises `Problem`."""
        raw = self.scope["query_string"]
        return Query(raw, known) if raw else _NO_QUERY

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises `Problem` where it is larger than `limit`, or there is no room for
        it beside others, and `ConnectionResetError`.

        How long it may take to arrive is for the server to bound, as `Listener` does: here a timer
        for each request would cost more than most of them.
        """
        for name in (b"content-encoding", b"content-range"):
            # a value would be stored packed, or in part
            if self.headers.get(name, b"identity") != b"identity":
                raise Problem(
                    415,
                    "BadHeader",
                    f"{name.decode()} has no meaning here; send the whole body as it is",
                )

        if self.headers.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
            raise Problem(
                501,
                "BadHeader",
                "transfer-encoding is chunked here, or left out; send the body as it is",
            )

        declared = self.headers.get(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > limit:
            raise self._too_large(limit)

        parts, size, more = [], 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client has gone")
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
            self._body_read = not more
            size += len(parts[-1])
            if size > limit:
                raise self._too_large(limit)
            if size > PART:  # G9: nor can many clients use up the memory together
                if not self._incoming.takes(size - self._held):
                    raise self._no_room()
                self._held = size

        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self, limit: int) -> Problem:
        close = ((b"connection", b"close"),)
        return Problem(
            413,
            "TooLarge",
            f"the body is larger than the {limit:,} bytes that are taken here",
            close,
        )

    def _no_room(self) -> Problem:
        most = self._incoming.most
        return Problem(
            429,
            "TooManyWrites",
            f"what clients are sending is larger than {most:,} bytes together; send it again later",
            ((b"retry-after", b"1"),),
        )

    def body_done(self) -> None:
        """Give back the room of the body, which is kept no more."""
        self._incoming.give_back(self._held)
        self._held = 0

    async def gone(self) -> None:
        """Return once the client has closed the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def let_go(self) -> None:
        """Cut the connection, and with it what the client has not taken.

        A close would wait for that for ever. In a server of somebody else, ending without a
        complete answer has to do.
        """
        self._tell_listener(ABORT)

    def _tell_listener(self, what: str) -> None:
        state = self.scope.get("state")
        if isinstance(state, dict) and what in state:
            state[what]()

    async def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the head of an answer without an end; the body follows by `write`."""
        self.status = status
        self.body_done()  # else each stream would take room for as long as it lasts
        self._tell_listener(STREAMS)
        marked = [*headers, (_MARK, STREAMED.encode()), _SAME_ORIGIN]
        await self._send({"type": "http.response.start", "status": status, "headers": marked})

    async def write(self, data: bytes, more: bool = True) -> None:
        """Send a part of the body; waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def answer(
        self,
        status: int,
        body: bytes = b"",
        kind: bytes = JSON,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Send a whole answer. Raises `ConnectionResetError` where the client does not take it."""
        self.status = status
        if status == 304:
            body = b""

        # G10: by this a client of ours tells what the server says from what a gateway
        # says in its place, or cuts short
        about = [(_MARK, b"%d" % len(body)), _SAME_ORIGIN]
        if status != 304:  # what it says of a body would be about the one that the client has
            about += [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        about += headers
        if kind is not JSON:
            about.append((b"x-content-type-options", b"nosniff"))
        start: Message = {"type": "http.response.start", "status": status, "headers": about}

        if len(body) <= PART:
            await self._send(start)
            if status >= 400 and not self._body_read:
                await self.write(body)
                await self._discard()
                body = b""
            await self.write(body, more=False)
            return

        try:
            await self._unsent.send(self._send(start), self.write, body)
        except TimeoutError:
            self.let_go()
            raise ConnectionResetError("the client does not read") from None

    async def _discard(self) -> None:
        """Read what is still to come of the body, within bounds.

        With bytes unread the connection would end in a reset, and a client that sends all before it
        reads anything, as that of Python does, would never see the answer.
        """
        if (
            not self.headers.keys() & {b"content-length", b"transfer-encoding"}
            or b"expect" in self.headers
        ):
            return
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while size < _DISCARDED:
                    message = await self._receive()
                    size += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    async def answer_json(
        self, value: object, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Send a value as JSON."""
        await self.answer(status, json_of(value), JSON, headers)


class Query:
    """The parameters of a URL, each given as often as it is known."""

    def __init__(self, raw: bytes, known: tuple[str, ...]) -> None:
        self._values: dict[str, list[str]] = {}
        try:
            pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=1000
            )
        except ValueError:
            raise Problem(
                400, "BadQuery", "the query does not decode; it is UTF-8, percent-encoded"
            ) from None
        for name, value in pairs:
            if name not in known:
                raise Problem(
                    400,
                    "BadQuery",
                    f"unknown query key {name!r}; known are: {', '.join(known) or 'none'}",
                )
            self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        """Every value given."""
        return self._values.get(name, [])

    def one(self, name: str) -> str | None:
        """The value, or None. Raises `Problem` where there are several."""
        values = self.all(name)
        if len(values) > 1:
            raise Problem(400, "BadQuery", f"{name}= is given more than once; give it once")
        return values[0] if values else None


_NO_QUERY = Query(b"", ())


def flag(query: Query, name: str, default: bool) -> bool:
    """A parameter that is true or false."""
    text = query.one(name)
    if text is None:
        return default
    known = {"true": True, "1": True, "false": False, "0": False}
    if text not in known:
        raise Problem(400, "BadQuery", f"{name}= takes true or false, not {text!r}")
    return known[text]


def number(query: Query, name: str, default: float, lowest: float, highest: float) -> float:
    """A parameter that is a number in a range."""
    text = query.one(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not lowest <= value <= highest:
        raise Problem(
            400, "BadQuery", f"{name}= takes a number from {lowest:g} to {highest:g}, not {text!r}"
        )
    return value


def header_text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    """A header as text, or nothing."""
    return headers.get(name, b"").decode("latin-1").strip()


def not_allowed(methods: str) -> Problem:
    """The answer to a method that means nothing here."""
    return Problem(
        405,
        "NoSuchMethod",
        f"this method is not allowed here; use one of {methods}",
        ((b"allow", methods.encode()),),
    )


def is_said_to_be_json(exchange: Exchange) -> bool:
    """Whether the content type of the body is JSON."""
    return (
        header_text(exchange.headers, b"content-type").partition(";")[0].strip().lower()
        == "application/json"
    )


def needs_json(exchange: Exchange) -> None:
    """Raise `Problem` unless the body is said to be JSON: a page of another
    origin cannot say so unasked."""
    if not is_said_to_be_json(exchange):
        raise Problem(415, "BadContentType", "send it as application/json")
