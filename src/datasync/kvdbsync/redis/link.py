"""One connection to one server: commands go out, replies come back in their
order, pushes come in between.

It is a connection of our own, over the parser of the Redis project, because a watch and an honest
write need to know what a general client hides: what was sent, that the connection is a new one, and
the order of pushes and replies.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from datasync.certificates import explained
from datasync.connecting import no_answer, not_connected
from datasync.endpoints import MAX_ANSWER, SLOWEST, Endpoint, TlsFiles
from datasync.errors import BadStore, Disconnected, Unauthorized
from datasync.kvdbsync.redis import errors
from datasync.kvdbsync.redis.replies import Replies, ReplyError, shaped
from datasync.shared import closed_on_error

__all__ = ["Access", "Command", "Link", "ReplyError", "refuse_mode"]

Command = tuple[str | bytes | int, ...]

_HELLO: Command = ("HELLO", 3)
_UNASKED = "it answers what nobody asked; check what stands before it"


@dataclasses.dataclass(frozen=True)
class Access:
    """How to speak to a server: as which user, over TLS or not, how long it may be silent while
    asked (seconds), and how many bytes one answer of it may have."""

    tls: TlsFiles | None = None
    user: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    timeout: float = 5.0
    database: int = 0
    max_answer: int = MAX_ANSWER
    login: str = errors.LOGIN
    """What to check where a server does not accept them."""


class _Asked:
    """Commands that go together, and their replies so far. unsent: their bytes, until they are
    handed over to the transport."""

    __slots__ = ("future", "replies", "unsent", "wanted")

    def __init__(self, wanted: int, unsent: bytes, future: asyncio.Future[list[Any]]) -> None:
        self.wanted = wanted
        self.unsent = unsent
        self.future = future
        self.replies: list[Any] = []


class Link(asyncio.Protocol):
    """Made by `connect`. `pushed` is called with each push, and `lost` once,
    when the connection has ended."""

    def __init__(self, endpoint: Endpoint, access: Access) -> None:
        self.endpoint = endpoint
        self.address = str(endpoint)
        self.access = access

        self.hello: dict[bytes, Any] = {}
        """What the server said of itself at first."""
        self._error: Disconnected | Unauthorized | None = None
        """Why the connection has ended."""

        self.pushed: Callable[[list[Any]], None] | None = None
        self.lost: Callable[[], None] | None = None

        self._loop = asyncio.get_running_loop()
        self._replies = Replies(self.address, access.max_answer)
        self._asked: deque[_Asked] = deque()
        """What was sent and is not answered."""
        self._corked: list[_Asked] = []
        """What is sent at the end of this turn of the loop."""

        self._transport: asyncio.Transport | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()

        self._heard: asyncio.Future[None] | None = None
        self._spoke = 0.0
        self._awaited = 0
        """How many wait for an answer."""

        self._watch: asyncio.TimerHandle | None = None
        """Looks whether the server gets on with its answers; one for all who wait."""
        self._answered = 0.0
        """When the server last answered, or somebody began to wait."""
        self._came = 0
        """Bytes that have come since, or since the last look."""

        self._pinged = 0.0
        self._transacts = False

    @classmethod
    async def connect(cls, endpoint: Endpoint, access: Access) -> Link:
        """A connection that was let in. Raises `Disconnected`, `Unauthorized`, `BadStore`."""
        link = cls(endpoint, access)
        try:
            async with closed_on_error(link.aclose), asyncio.timeout(access.timeout):
                await link._dial()
                await link._greet()
        except TimeoutError:
            raise no_answer(link.address, "Redis", access.timeout) from None
        except (OSError, OverflowError, UnicodeError) as error:
            raise not_connected(error, link.address, "Redis", tls=access.tls is not None) from None
        except Disconnected as error:
            if link.hello:
                raise
            raise await explained(
                error, link.address, endpoint.bare, endpoint.port, access.tls
            ) from None
        return link

    async def _dial(self) -> None:
        tls = self.access.tls
        context = None if tls is None else tls.context()
        await self._loop.create_connection(
            lambda: self, self.endpoint.bare, self.endpoint.port, ssl=context
        )

    async def _greet(self) -> None:
        access = self.access
        hello = _HELLO
        if access.user is not None or access.password is not None:
            hello += ("AUTH", access.user or "default", access.password or "")
        commands = [hello]
        if access.database:
            commands.append(("SELECT", access.database))
        hello, *_ = await self.ask(*commands)
        self.hello = shaped(hello, dict[bytes, Any], self.address)

    @property
    def error(self) -> Disconnected | Unauthorized | None:
        """Why it has ended. G9: an error for each who asks; one that is raised
        knows all who waited for it."""
        return copy.copy(self._error)

    @property
    def ready(self) -> bool:
        """Whether the connection stands, as far as can be known."""
        return (
            self._error is None and self._transport is not None and not self._transport.is_closing()
        )

    @property
    def role(self) -> str:
        """What it was at first: "master" or "replica"."""
        return _said(self.hello, b"role")

    def send(self, *commands: Command) -> asyncio.Future[list[Any]]:
        """Send commands together; the future holds their replies, errors among them,
        or fails with `Disconnected`."""
        return self._send(commands).future

    def _send(self, commands: Sequence[Command]) -> _Asked:
        """At once where nothing is on its way, else with all that this turn of the loop sends."""
        pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment] # typed as a tuple of one
        packed = b"".join(map(pack, commands)) if len(commands) > 1 else pack(commands[0])
        asked = _Asked(len(commands), packed, self._loop.create_future())
        self._corked.append(asked)
        if not self._asked and len(self._corked) == 1:
            self._flush()
        elif len(self._corked) == 1:
            self._loop.call_soon(self._flush)
        return asked

    def _flush(self) -> None:
        """Send what waits for the end of the turn; what cannot be sent any more fails."""
        corked, self._corked = self._corked, []
        if self.ready and self._transport is not None:
            self._asked.extend(corked)
            packed = [asked.unsent for asked in corked]
            for asked in corked:
                asked.unsent = b""
            self._transport.write(b"".join(packed))
            return
        for asked in corked:
            if not asked.future.done():
                asked.future.set_exception(
                    self.error
                    or Disconnected(f"{self.address}: the connection is closed; try again")
                )
                asked.future.exception()  # nobody need fetch it

    async def ask(self, *commands: Command) -> list[Any]:
        """The replies to commands that change nothing. Raises what
        `redis.errors.of_reply` makes of an error."""
        return self.good(await self.answered(self.send(*commands)))

    def good(self, replies: list[Any]) -> list[Any]:
        """The replies, if there is no error among them. Raises as `ask` does."""
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise errors.of_reply(reply, self.address, self.access.login)
        return replies

    async def tell(self, *commands: Command) -> list[Any]:
        """The replies to commands that change something, errors among them. Raises `Disconnected`
        where they were not sent, `OutcomeUnknown` where they were."""
        asked = self._send(commands)
        try:
            return await self.answered(asked.future)
        except (Disconnected, Unauthorized) as error:
            if asked.unsent:  # G10: surely not done
                raise
            raise errors.unknown(error) from None
        finally:
            del asked  # G9: its error knows this frame

    async def may_transact(self) -> None:
        """See once that MULTI and EXEC may be used: after a MULTI that is refused, all else is
        done one by one. Raises as `ask` does."""
        if not self._transacts:
            await self.ask(("MULTI",), ("EXEC",))
            self._transacts = True

    async def answered(self, replies: asyncio.Future[list[Any]]) -> list[Any]:
        """Wait as long as the server gets on with its answers.

        All that was sent together has the time of one answer, and more only as its bytes come; that
        time begins again with each answer to what was sent before.
        """
        self._awaited += 1
        if self._awaited == 1:
            self._answered, self._came = self._loop.time(), 0
            if self._watch is None:
                self._watch = self._loop.call_later(self.access.timeout, self._look)
        try:
            return await replies
        finally:
            self._awaited -= 1
            del replies  # G9: their error knows this frame, which would keep the write

    def _look(self) -> None:
        """End the connection of a server that does not get on; nobody can tell which of
        the later commands would still be done."""
        self._watch = None
        if not self._awaited:
            return
        limit = self.access.timeout
        patience = self._answered + limit - self._loop.time()
        if patience <= 0:
            patience, self._came = min(limit, self._came / SLOWEST), 0
        if patience:
            self._watch = self._loop.call_later(patience, self._look)
        else:
            self.fail(f"no answer within {limit:g} s; check that the server is healthy")

    async def ping(self) -> None:
        """Return as soon as the server says anything. Raises `Disconnected` when it is gone, or has
        said nothing since an earlier ping that was given up."""
        if self._spoke < self._pinged:
            self.fail("no answer to a ping; check that the server is healthy")
        self._pinged = self._loop.time()
        answer = self.send(_HELLO)
        answer.add_done_callback(self._check_role)
        heard = self._heard = self._heard or self._loop.create_future()
        await asyncio.wait((answer, heard), return_when=asyncio.FIRST_COMPLETED)
        if self.error is not None:
            raise self.error

    def _check_role(self, answer: asyncio.Future[list[Any]]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            return
        hello = answer.result()[0]
        if isinstance(hello, dict) and _said(hello, b"role") != self.role:
            self.fail(f"it is a {_said(hello, b'role')} now")

    def fail(self, why: str) -> None:
        """End the connection; calls that wait for a reply raise `Disconnected`."""
        self._end(Disconnected(f"{self.address}: {why}"))

    def _end(self, error: Disconnected) -> None:
        if self._error is None:
            self._error = error
        if self._transport is not None:
            self._transport.abort()

    async def aclose(self) -> None:
        """Close now. May be called twice."""
        self.fail("the connection is closed")
        if self._transport is not None:
            await asyncio.wait((self._ended,))  # a turn of the loop at most

    # -- what the transport calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # that of another loop is of no class of asyncio's
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        asked = self._asked
        self._spoke = self._loop.time()
        self._came += len(data)

        if self._heard is not None:
            if not self._heard.done():
                self._heard.set_result(None)
            self._heard = None

        try:
            for reply in self._replies.feed(data):
                if isinstance(reply, hiredis.PushNotification):
                    if self.pushed is not None:
                        self.pushed(reply)
                elif not asked:
                    self.fail(errors.told(reply) if isinstance(reply, ReplyError) else _UNASKED)
                    break
                else:
                    first = asked[0]
                    first.replies.append(reply)
                    if len(first.replies) == first.wanted:
                        asked.popleft()
                        self._answered, self._came = self._spoke, 0
                        if not first.future.done():
                            first.future.set_result(first.replies)
                    if isinstance(reply, ReplyError) and errors.ends_connection(reply):
                        self.fail(errors.told(reply))  # at once: nothing more is sent over it
                        break
        except Disconnected as error:
            self._end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._error is None:
            self._error = errors.of_loss(
                exc, self.address, greeted=bool(self.hello), tls=self.access.tls is not None
            )
        asked, self._asked = self._asked, deque()
        for each in asked:
            if not each.future.done():
                each.future.set_exception(copy.copy(self._error))
                each.future.exception()  # nobody need fetch it
        if self._heard is not None and not self._heard.done():
            self._heard.set_result(None)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if not self._ended.done():
            self._ended.set_result(None)
        lost, self.lost, self.pushed = self.lost, None, None  # G9: they refer to the owner of this
        if lost is not None:
            lost()


def _said(hello: dict[bytes, Any], name: bytes) -> str:
    """What a server says of itself, as text; nothing where that is not text."""
    value = hello.get(name)
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def refuse_mode(link: Link, wanted: str) -> None:
    """Raise `BadStore` where the server is of another kind than the URL says
    ("standalone", "cluster", "sentinel")."""
    mode = _said(link.hello, b"mode")
    if mode != wanted:
        scheme = {"cluster": "redis+cluster://", "sentinel": "redis+sentinel://"}.get(
            mode, "redis:// or rediss://"
        )
        raise BadStore(f"{link.address}: it runs as {mode or 'something else'}; write {scheme}")
