"""The watch of a session: one stream over all its ranges, joined to whole revisions in order.

One range that covers all scopes is watched where the user may read all of it, else each scope for
itself. The server keeps the order only within one watch id, so what several bring is held until
each of them is known to have passed the revision. A watch has passed a revision once it brought a
later one, or the server says so: see `Watch.chase`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from datasync.connecting import too_large
from datasync.errors import Disconnected, HistoryLost, Unauthorized
from datasync.grpc_channel import await_detached, grpc
from datasync.kvdbsync.etcd import errors
from datasync.kvdbsync.etcd.channel import RANGE, STATUS, Link, Stream
from datasync.kvdbsync.etcd.keys import Range, cover, range_of, text_of
from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb
from datasync.kvdbsync.etcd.versions import progress_is_ordered

__all__ = ["Changes", "Watch"]

T = TypeVar("T")

Changes = list[tuple[str, bytes | None]]
"""What one revision did: keys with their new values, None for a deletion."""

_ALL = -1
"""The watch id of progress that was asked for: it concerns the whole stream."""
_PROGRESS = pb.WatchRequest(progress_request=pb.WatchProgressRequest())
_AGAIN, _SELDOM = 0.05, 1.0
"""Seconds until the server is asked again: the first pause, which doubles each time, and the
longest. A server does not answer while a watch lags behind."""
_BESIDE = 128
"""Bytes that a change takes beside its key and value."""
_LOOKED_AT = 128
"""Ranges in one request, at most."""
_COUNTED = 1_000_000
"""Keys that may be counted to find out what happened in between; some tenths of a second."""


class _Part:
    """What one watch of the stream has brought."""

    __slots__ = ("keys", "last", "passed", "range", "rest", "seen")

    def __init__(self, range_: Range, revision: int) -> None:
        self.range = range_
        self.seen = revision  # the newest revision that it brought
        self.last: Changes = []
        self.passed = revision  # nothing is missing up to here
        self.keys = 0  # how many there are at `seen`; only where requested progress is not ordered
        # what the fragments so far have brought of a revision
        self.rest: tuple[int, Changes, int] = (0, [], 0)


class Watch:
    """Follows `scopes` (no scope lies in another one) at one member. `begin`,
    then `take` until it raises."""

    def __init__(self, link: Link, scopes: Sequence[str]) -> None:
        self._link = link
        self._scopes = scopes
        self._ordered = progress_is_ordered(link.status.version)
        self._parts: list[_Part] = []
        self._held: dict[int, Changes] = {}
        self._waiting = 0  # bytes that were brought; counted again where they seem too many
        self._told = 0  # the revision that was given out last
        self._idle = 0  # the newest revision heard of, where there is nothing to watch
        self._goal = 0
        self._stream: Stream | None = None
        self._early: list[pb.WatchResponse] = []
        self._reading: asyncio.Future[pb.WatchResponse] | None = None
        self._chasing: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._error: Exception | None = None
        self._signal = asyncio.Event()
        self._woken = False
        self._moved = asyncio.Event()

    @property
    def passed(self) -> int:
        """Nothing is missing up to this revision."""
        return min((part.passed for part in self._parts), default=self._idle)

    async def begin(self, revision: int | None) -> None:
        """Start after `revision`, or now where None, and hear that the server accepted it.

        Raises `Unauthorized`, which names the scope, `Disconnected`, `HistoryLost`.
        """
        if not self._scopes:
            self._idle = revision or self._link.status.header.revision
        elif self._link.access.has_user:
            with contextlib.suppress(Unauthorized):  # the watch names what may not be read
                # a call has its token renewed when that expired meanwhile; a watch is refused
                await self.head()
        if len(self._scopes) == 1:
            await self._create([range_of(self._scopes[0])], revision)
        elif self._scopes:
            try:
                await self._create([cover(self._scopes)], revision)
            except Unauthorized:
                # for what lies in between, or for a scope; then this says for which
                await self._create([range_of(scope) for scope in self._scopes], revision)
        if not self._ordered:
            counts = await self._count([(part, part.seen) for part in self._parts])
            for part, keys in zip(self._parts, counts, strict=True):
                part.keys = keys
        self._told = self.passed

    async def head(self) -> int:
        """The newest revision that the cluster had acknowledged when this was
        called. Raises as `Link.ask`."""
        if self._scopes:
            request = pb.RangeRequest(key=range_of(self._scopes[0]).key, count_only=True)
            return (await self._link.ask(RANGE, request)).header.revision
        revision = (await self._link.ask(STATUS, pb.StatusRequest())).header.revision
        self._pass(self._parts, revision)
        return revision

    async def take(self) -> list[tuple[int, Changes]]:
        """The next whole revisions, in order; one without changes is a
        bookmark. None at all after `wake`.

        Called by one task. Raises `Disconnected`, `HistoryLost`, and what `fail` was given.
        """
        while True:
            if self._error is not None:
                raise self._error
            if self._early:
                self._sort_in(self._early.pop(0))
            elif self._reading is not None and self._reading.done():
                reading, self._reading = self._reading, None
                if reading.cancelled():  # what grpc makes of closing the channel
                    raise Disconnected(f"{self._link.endpoint}: the connection was closed")
                self._sort_in(self._accepted(reading.result(), self.passed))

            revisions = self._released()
            if revisions or self._woken:
                self._woken = False
                return revisions

            if self._early:
                continue
            if self._reading is None and self._parts:
                self._reading = asyncio.ensure_future(self._read())
                self._reading.add_done_callback(self._rouse)
            await self._signal.wait()
            self._signal.clear()

    def wake(self) -> None:
        """Have `take` return."""
        self._woken = True
        self._signal.set()

    def fail(self, error: Exception) -> None:
        """Have `take` raise."""
        self._error = self._error or error.with_traceback(None)  # whose frames lead back here
        self._signal.set()

    def chase(self, revision: int) -> None:
        """See to it that `passed` gets to `revision`, which the cluster has acknowledged."""
        self._goal = max(self._goal, revision)
        if self.passed < self._goal and (self._chasing is None or self._chasing.done()):
            self._chasing = asyncio.ensure_future(self._chase())

    async def ask(self) -> None:
        """Have the server say how far it is, once, where that costs nothing.
        Where that fails, `take` raises."""
        if self._ordered and self._parts:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.ensure_future(self._ask())
            # G8: a ping that is given up goes on: with a write that is
            # cancelled grpc ends the whole watch
            await asyncio.wait((self._asking,))

    async def _ask(self) -> None:
        try:
            await self._write(_PROGRESS)
        except Exception as error:
            self.fail(error)

    async def aclose(self) -> None:
        """End all tasks, and have `take` raise."""
        self.fail(Disconnected(f"{self._link.endpoint}: the session is closed"))
        tasks = [task for task in (self._reading, self._chasing, self._asking) if task is not None]
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            self._reading = self._chasing = self._asking = None
            self._let_go()

    # -- the stream --------------------------------------------------------------------------------

    async def _create(self, ranges: Sequence[Range], revision: int | None) -> None:
        self._stream = await self._link.watch()
        self._early.clear()
        parts: list[_Part] = []
        try:
            for number, range_ in enumerate(ranges, 1):
                with contextlib.suppress(Disconnected):  # reading tells why
                    await self._in_time(self._write(_create_request(number, range_, revision)))
            while len(parts) < len(ranges):
                response = await self._in_time(self._read())
                if response.canceled and "permission denied" in response.cancel_reason:
                    raise self._not_permitted(ranges[len(parts)])
                # one that starts now begins after the revision of the answer
                start = response.header.revision if revision is None else revision
                if self._accepted(response, start).created:
                    parts.append(_Part(ranges[len(parts)], start))
                else:
                    self._early.append(response)
        except BaseException:
            self._let_go()
            raise
        self._parts = parts

    async def _in_time(self, step: Coroutine[Any, Any, T]) -> T:
        """What comes of a step at the beginning. G8: a member that says nothing then is given up,
        for others may do better."""
        try:
            async with asyncio.timeout(self._link.access.timeout):
                return await step
        except TimeoutError:
            raise errors.silent(self._link.endpoint) from None

    def _let_go(self) -> None:
        """G12: grpc keeps the connection for as long as anybody holds a call, though
        it ended and all is closed."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()

    def _not_permitted(self, range_: Range) -> Unauthorized:
        scope = next((scope for scope in self._scopes if range_of(scope) == range_), "")
        what = (
            f"{scope!r}"
            if scope
            else "all keys"
            if len(self._scopes) == 1
            else "the range of all scopes"
        )
        return Unauthorized(
            f"{self._link.endpoint}: the user may not read {what}; grant one of the user's roles "
            "to read it (etcdctl role grant-permission), or watch less"
        )

    async def _write(self, request: pb.WatchRequest) -> None:
        if self._stream is None:
            raise Disconnected(f"{self._link.endpoint}: the session is closed")
        async with self._writing:
            try:
                await await_detached(self._stream.write(request))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                raise Disconnected(f"{self._link.endpoint}: the watch ended") from None

    async def _read(self) -> pb.WatchResponse:
        endpoint = self._link.endpoint
        if self._stream is None:
            raise Disconnected(f"{endpoint}: the session is closed")
        try:
            response = await await_detached(self._stream.read())
        except grpc.aio.AioRpcError as error:
            raise errors.read_error(error, endpoint) from None
        if response is grpc.aio.EOF:
            raise Disconnected(f"{endpoint}: the server ended the watch")
        if not isinstance(response, pb.WatchResponse):  # bytes that are not a message
            raise errors.not_etcd(endpoint)
        return response

    def _accepted(self, response: pb.WatchResponse, position: int) -> pb.WatchResponse:
        """The response, unless it ends the watch, which stood at `position`."""
        if not response.canceled:
            return response
        endpoint = self._link.endpoint
        if response.compact_revision:
            raise HistoryLost(
                f"{endpoint}: compacted up to revision {response.compact_revision}, the watch "
                f"stood at {position}; take a snapshot"
            )
        raise errors.of_cancel(response.cancel_reason, endpoint)

    def _rouse(self, reading: asyncio.Future[pb.WatchResponse]) -> None:
        if not reading.cancelled():
            reading.exception()  # `take` raises it, unless nobody takes anything any more
        self._signal.set()

    # -- whole revisions ---------------------------------------------------------------------------

    def _sort_in(self, response: pb.WatchResponse) -> None:
        if response.watch_id != _ALL and not 0 < response.watch_id <= len(self._parts):
            raise errors.not_etcd(self._link.endpoint)
        if response.events or response.fragment:
            if response.watch_id == _ALL:
                raise errors.not_etcd(self._link.endpoint)
            self._bring(self._parts[response.watch_id - 1], response)
        elif response.watch_id != _ALL:
            if not response.created:
                self._pass([self._parts[response.watch_id - 1]], response.header.revision)
        elif self._ordered:
            self._pass(self._parts, response.header.revision)
        self._moved.set()

    def _bring(self, part: _Part, response: pb.WatchResponse) -> None:
        """Note the revisions in a response; what may go on in its next fragment is kept back."""
        revision, changes, keys = part.rest
        for event in response.events:
            kv = event.kv
            if kv.mod_revision != revision:
                self._complete(part, revision, changes, keys)
                revision, changes, keys = kv.mod_revision, [], 0
            if not self._ordered:
                keys += -1 if event.type else kv.version == 1
            self._waiting += len(kv.key) + len(kv.value) + _BESIDE
            try:
                changes.append((kv.key.decode(), None if event.type else kv.value))
            except UnicodeDecodeError:
                text_of(kv.key)
        if response.fragment:
            part.rest = (revision, changes, keys)
        else:
            self._complete(part, revision, changes, keys)
            part.rest = (0, [], 0)
        if self._waiting > self._link.access.max_answer:
            self._weigh()

    def _weigh(self) -> None:
        """G9: raise `AnswerTooLarge` where what waits to be whole, or to be
        passed by all, is too much."""
        whole = [part.rest[1] for part in self._parts] + list(self._held.values())
        self._waiting = sum(
            len(key) + len(raw or b"") + _BESIDE for changes in whole for key, raw in changes
        )
        if self._waiting > self._link.access.max_answer:
            raise too_large(self._link.endpoint, self._link.access.max_answer)

    def _complete(self, part: _Part, revision: int, changes: Changes, keys: int) -> None:
        if revision <= part.seen:
            # some servers repeat events after they caught up by a snapshot; a
            # revision is never sent in two parts
            if revision == part.seen and part.last and changes != part.last:
                raise HistoryLost(
                    f"{self._link.endpoint}: revision {revision} came in two parts; take a snapshot"
                )
            return
        if revision <= part.passed:  # G3: see `_compare`; the order cannot be mended any more
            raise HistoryLost(
                f"{self._link.endpoint}: revision {revision} came late; take a snapshot"
            )
        part.seen = part.passed = revision
        part.last = changes
        part.keys += keys
        held = self._held.get(revision)
        # G4: the parts of one transaction
        self._held[revision] = changes if held is None else held + changes

    def _pass(self, parts: Iterable[_Part], revision: int) -> None:
        for part in parts:
            part.passed = max(part.passed, revision)
        self._idle = max(self._idle, revision)
        self._moved.set()
        self._signal.set()

    def _released(self) -> list[tuple[int, Changes]]:
        passed = self.passed
        due = sorted(revision for revision in self._held if revision <= passed)
        revisions = [(revision, self._held.pop(revision)) for revision in due]
        if passed > max(self._told, due[-1] if due else 0):
            revisions.append((passed, []))
        self._told = max(self._told, passed)
        if self._held:  # G3: order across ids is not given by the server
            self.chase(max(self._held))
        return revisions

    # -- how far it is -----------------------------------------------------------------------------

    async def _chase(self) -> None:
        pause = _AGAIN
        try:
            while self.passed < self._goal:
                self._moved.clear()
                if not self._parts:
                    await self.head()
                elif self._ordered:
                    await self._write(_PROGRESS)
                else:
                    await self._compare([part for part in self._parts if part.passed < self._goal])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._moved.wait()
                pause = min(2 * pause, _SELDOM)
        except Exception as error:
            self.fail(error)

    async def _compare(self, parts: Sequence[_Part]) -> None:
        """Find out that no event is to come, from a server whose progress may overtake events.

        Nothing changed since a watch brought its newest event if no key is newer, and as many are
        left. What was put and deleted again in between leaves no trace; where the history lets one
        count, it is found. Where not, and such an event comes after all, the session ends with
        `HistoryLost` rather than show it out of order.
        """
        head, found = await self._link.ask_together(
            [
                pb.RangeRequest(
                    key=part.range.key,
                    range_end=part.range.end,
                    limit=1,
                    sort_order=pb.RangeRequest.DESCEND,
                    sort_target=pb.RangeRequest.MOD,
                    keys_only=True,
                    min_mod_revision=part.seen + 1,
                )
                for part in parts
            ]
        )

        compared = parts[: len(found)]
        for part, answer in zip(compared, found, strict=True):
            newest = answer.kvs[0].mod_revision if answer.kvs else 0
            if part.seen < head and (newest > part.seen or answer.count != part.keys):
                return

        seen = [part.seen for part in compared]
        if await self._quiet(compared, head) and seen == [part.seen for part in compared]:
            self._pass(compared, head)

    async def _quiet(self, parts: Sequence[_Part], head: int) -> bool:
        """Whether the number of keys was the same all the time, as far as one can
        tell at a reasonable price."""
        revisions = sum(max(0, head - part.passed - 1) for part in parts)
        if (
            revisions * max((part.keys for part in parts), default=1) > _COUNTED
            or revisions > _COUNTED
        ):
            return True
        between = [(part, revision) for part in parts for revision in range(part.passed + 1, head)]
        try:
            counts = await self._count(between)
        except HistoryLost:
            return True
        return all(part.keys == count for (part, _), count in zip(between, counts, strict=True))

    async def _count(self, which: Sequence[tuple[_Part, int]]) -> list[int]:
        """How many keys each part had at each revision."""
        counts: list[int] = []
        while left := which[len(counts) : len(counts) + _LOOKED_AT]:
            _, found = await self._link.ask_together(
                [
                    pb.RangeRequest(
                        key=part.range.key,
                        range_end=part.range.end,
                        revision=revision,
                        count_only=True,
                    )
                    for part, revision in left
                ]
            )
            counts += [answer.count for answer in found]
        return counts


def _create_request(number: int, range_: Range, revision: int | None) -> pb.WatchRequest:
    return pb.WatchRequest(
        create_request=pb.WatchCreateRequest(
            key=range_.key,
            range_end=range_.end,
            start_revision=0 if revision is None else revision + 1,
            progress_notify=True,
            watch_id=number,
            fragment=True,
        )
    )
