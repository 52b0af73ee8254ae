"""The protocol of a transport: it turns its source into ordered frames, and
writes. The engine does the rest.

Keys are whole keys here; the engine adds and removes the prefix of a DataSync. A source yields
keys that are text of at least one character; others that its store holds it skips, and says so
once (`datasync.skipped_keys`).
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from datasync.capabilities import Capabilities
from datasync.errors import BadKey, OutcomeUnknown, UnsupportedOption
from datasync.findings import Finding
from datasync.frames import Commit, Frame, Progress, SnapshotBegin, SnapshotChunk, SnapshotEnd
from datasync.outcome import Reply, Result
from datasync.scopes import Scopes

__all__ = [
    "Check",
    "Commit",
    "Committed",
    "Delete",
    "Frame",
    "Held",
    "Item",
    "Operation",
    "Progress",
    "PushSession",
    "Put",
    "ROW_BYTES",
    "Reply",
    "Result",
    "Scopes",
    "Session",
    "SnapshotBegin",
    "SnapshotChunk",
    "SnapshotEnd",
    "Soon",
    "Source",
    "handed_on",
    "held",
    "verdict_error",
]

Item = tuple[str, bytes, int]
"""(key, raw value, revision) as a source stores it."""

ROW_BYTES = 100
"""What an item takes beside its value, about."""


class Held(msgspec.Struct, frozen=True):
    """The token of a source that reads a list in one go: what it read, and
    where the next page starts.

    rows: all that was read. Lists of one state may share them.
    start: the index of the first row of the next page.
    size: roughly the bytes that the rows hold, for servers, which keep tokens for clients that may
        never come back.
    """

    rows: Sequence[Any]
    start: int
    size: int

    def page(self, limit: int) -> tuple[Sequence[Any], Held | None]:
        """The next rows, and the token of what follows them."""
        end = self.start + limit
        rows = self.rows[self.start : end]
        return rows, Held(self.rows, end, self.size) if end < len(self.rows) else None


def held(items: Sequence[Item]) -> Held:
    """The token of the first page of `items`."""
    return Held(items, 0, ROW_BYTES * len(items) + sum(len(item[1]) for item in items))


class Put(msgspec.Struct, frozen=True, gc=False):
    """Store a value under a key.

    key: the whole key.
    raw: the bytes of the value.
    ttl: seconds after which the key is deleted; None to keep it.
    content_type: what the bytes are, for sources that store this; None where the application gave
        bytes.
    """

    key: str
    raw: bytes
    ttl: float | None = None
    content_type: str | None = None


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Delete a key.

    key: the whole key.
    prefix: delete every key that starts with `key` instead.
    """

    key: str
    prefix: bool = False


class Check(msgspec.Struct, frozen=True, gc=False):
    """A condition of a transaction: unless it holds, nothing is written, and `Conflict` is raised.

    key: the whole key.
    revision: the revision that it must have; 0 if it must be absent.
    """

    key: str
    revision: int


Operation = Put | Delete | Check


class Committed(msgspec.Struct, frozen=True, gc=False):
    """What a commit did.

    revision: that of the commit; None where the source has none.
    existed: for each Delete, in order, whether it found something.
    result: the verdict of the watches behind the source, or its future; None unless `reply` was
        asked of a source that has it.
    by_key: where each key is ordered for itself, the revision of each of several that were written.
    """

    revision: int | None
    existed: Sequence[bool] = ()
    result: Result | asyncio.Future[Result] | None = None
    by_key: Mapping[str, int] = MappingProxyType({})

    async def verdict(self) -> Result:
        """Wait for the result. Only where `reply` was asked for."""
        assert self.result is not None
        return self.result if isinstance(self.result, Result) else await self.result


def handed_on(
    theirs: asyncio.Future[Result], change: Callable[[Result], Result]
) -> asyncio.Future[Result]:
    """The verdict that `theirs` brings, changed, for a source that stands before another.

    Its error is handed on too: nobody waits for what will not come.
    """
    ours: asyncio.Future[Result] = theirs.get_loop().create_future()

    def hand_over(done: asyncio.Future[Result]) -> None:
        # G10: an error raised here, in a callback, would reach the log instead of the caller
        error = verdict_error(done)
        if ours.done():
            return
        if error is None:
            ours.set_result(change(done.result()))
        else:
            ours.set_exception(error)
            ours.exception()  # the caller may no longer wait for it

    theirs.add_done_callback(hand_over)
    return ours


def verdict_error(done: asyncio.Future[Result]) -> BaseException | None:
    """Why a verdict that is waited for no longer did not come; None where it did."""
    if done.cancelled():
        return OutcomeUnknown("the verdict was given up before it came; the write itself stands")
    return done.exception()


class Session(abc.ABC):
    """One connection that follows a source: an async iterator of lists of frames.

    Iterating raises `Disconnected` (the engine opens a new session), `HistoryLost` (it opens one
    that begins with a snapshot) or `Unauthorized`. Ending without an error counts as
    `Disconnected`. A session is iterated by a single task.

    To watch more, the engine opens a second session beside the one that it follows, and closes that
    once the second one can take over.
    """

    exclusive: bool = False
    """Whether it has to be closed before another session of the same source object may follow, as a
    member of a group that is given each record once."""

    @abc.abstractmethod
    def __aiter__(self) -> AsyncIterator[Sequence[Frame]]: ...

    async def ping(self) -> None:  # noqa: B027 - a session over something that cannot hang need not override it
        """Return once the other side has answered; raise `Disconnected` when it is gone.
        The engine sets a deadline."""

    async def caught_up(self) -> None:  # noqa: B027
        """Return once the engine has taken over all that the source had
        acknowledged, to anybody, before this call.

        The engine has taken over a frame when it asks for the next ones. Raises as iterating does;
        ends when the session is closed. Watches that are registered while running wait for it, and
        so does a session that takes over from this one; without revisions, or with an order by key,
        it is also how a confirmed write finds the commit that shows it. Only a session that hands
        over each commit before anybody hears that it is done may return at once.
        """

    async def aclose(self) -> None:  # noqa: B027
        """Release everything; iterating ends. May be called twice, and while iterating."""


class PushSession(Session):
    """A session in this process: it calls `push` with its frames instead of being iterated.

    The frames that are due already are pushed inside `attach`. Handlers may run inside `push`, and
    may write: frames that come about by that are pushed after the ones given to it, in every
    session. The iterator yields what would hold up the loop for too long if it were pushed: a
    snapshot of many keys, step by step, after which all else is due meanwhile. It ends, or raises,
    when the session does.
    """

    @abc.abstractmethod
    def attach(self, push: Callable[[Sequence[Frame]], None]) -> None: ...

    @abc.abstractmethod
    def widen(self, scopes: Sequence[str], added: Sequence[str]) -> None:
        """Cover `scopes` from now on, and push a snapshot of `added`, those among them that are
        new, marked `same_history`.

        It is pushed within the call, or after what is being brought, or due at `attach`,
        in its place of the order. A commit that is made next, with `reply` too, finds
        the session covering all of it.
        """

    def widen_soon(self, widen: Callable[[], None]) -> None:
        """Call `widen`, which calls the method of that name and does not raise, before the next
        commit is made, but within this turn of the loop or the next: then what is registered
        together is one snapshot. See `Soon`.

        This one calls it at once. That is right as well, but then each watch costs as much as
        there are watches.
        """
        widen()


class Soon:
    """Calls that wait for the end of this turn of the loop, or for `now` where
    somebody cannot wait so long."""

    __slots__ = ("_loop", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        """Those that wait."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def call(self, call: Callable[[], None]) -> None:
        """Call this, after those that wait already."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self.waiting.clear()  # the loop that they were to be called in has ended
        self._loop = loop
        if not self.waiting:
            loop.call_soon(self.now)
        self.waiting.append(call)

    def now(self) -> None:
        """Call all that wait."""
        calls, self.waiting = self.waiting, []
        for call in calls:
            call()


class Source(abc.ABC):
    """A place that data comes from. One object may serve several DataSyncs at a time."""

    name: str
    """How messages and `status()` call it: its URL without secrets."""
    capabilities: Capabilities
    """What it can promise; a source that stands for another may learn of it only when
    it opens its first session."""
    create: bool = True
    """Whether opening may make the store where there is none. A reader clears it before the first
    use: then a missing store is a `BadStore` at once. Means nothing to sources that make no stores.
    """
    forwards_verdicts: bool = False
    """Whether `commit` with `reply` tells what watches elsewhere made of it, though the capability
    `reply` is missing: the watches of the DataSyncs that follow this source are not among them, and
    are asked beside it. A source that stands for another may learn this as late as its
    capabilities."""
    relative: bool = False
    """Whether its keys are relative to the root of each DataSync that uses it, as those of files
    are, instead of whole keys."""
    instead_of_writing: str = "make the change where its data comes from"
    """What a writer is to do where it takes no writes; the end of the error."""
    trouble: str | None = None
    """What is wrong with a part of it, though it is followed; None where nothing is. `status()` and
    the pages show it."""

    def attach(  # noqa: B027 - of no concern to most
        self, status: Callable[[], Any], panels: Mapping[str, Any]
    ) -> None:
        """Called as a DataSync starts with this source.

        status: its `DataSync.status`, for sources that show it.
        panels: those that it shows, by name, as they are by now.
        """

    @abc.abstractmethod
    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        """Start a session.

        A snapshot is at least as new as this call: it holds all that the store had acknowledged to
        anybody before.

        scopes: what to follow: prefixes ("" or ending in a slash) and single keys. Nothing outside
            of them (see `Scopes`) may be in a frame.
        resume: the position to continue after, one that a frame of another session carried, which
            may have gone on since. None (the default) to begin with a snapshot of all scopes;
            always None for sources without `resume` in their capabilities.
        added: with `resume`, scopes that are new: they come as a snapshot in its place of the order
            (default: none). They may contain scopes that are not new, whose commits are shown
            before it all the same.

        Raises `Disconnected` (the engine tries again), `HistoryLost` (it asks again without
        `resume`), `Unauthorized`, `BadStore`.
        """

    @abc.abstractmethod
    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        """Do all operations atomically, or none; return once the source has acknowledged them.

        operations: no two name the same key, except for a Check beside a Put or Delete.
        reply: have the result carry the verdict of the watches behind the source (default: no).
            Only where the capabilities have it.

        Raises `Conflict`, `Disconnected` (surely not done), `OutcomeUnknown` (perhaps done),
        `UnsupportedOption`, `Unauthorized`.
        """

    async def delete_raw(self, key: bytes) -> bool:
        """Delete one key by its bytes, even if no text names it or the engine skips it.

        For stores whose keys are more than text; for others it is a `Delete`. Returns whether the
        key was there.

        key: the whole key, as the store holds it.

        Raises as `commit` does, and `BadKey` where the source names keys by text only.
        """
        try:
            text = key.decode()
        except UnicodeDecodeError:
            raise BadKey(
                f"{self.name} names keys by text, and {key!r} is not UTF-8; delete it in the store"
            ) from None
        committed = await self.commit([Delete(text)])
        return committed.existed[0]

    @abc.abstractmethod
    async def get(self, key: str) -> tuple[bytes, int] | None:
        """The raw value and revision of one key; None where it does not exist.

        Raises `Disconnected`, `Unauthorized`, `BadStore`.
        """

    @abc.abstractmethod
    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        """One page of a list, and the token of the next; None after the last page.

        In key order, and all pages at one revision, where the source can do that. A token that
        holds what is still to come is a `Held`.

        prefix: what the keys start with.
        token: what the page before returned; None for the first page.
        limit: about how many items the page may have.
        keys_only: leave the values out, so that raw is b"" (default: no).

        Raises `Disconnected`, `Unauthorized`, `BadStore`.
        """

    async def replace(self, items: Iterable[tuple[str, bytes]]) -> Committed:
        """Replace the whole state (a RESYNC that a client sends); the result carries the verdict.

        items: all keys from now on, with their values. May be empty.

        Raises as `commit` does; `UnsupportedOption` where there is a store in between.
        """
        raise UnsupportedOption(
            f"{self.name} takes no RESYNC: it is a store; write and delete its keys"
        )

    async def diagnose(self, key: str) -> Sequence[Finding]:
        """What this transport alone can find out of how its server is: version and known defects,
        leave to write, settings, clock, certificate. Nothing is written, and what may not be asked
        is not guessed.

        key: one that nobody uses, for questions that need one.

        Raises as `get` does.
        """
        return ()

    async def aclose(self) -> None:  # noqa: B027 - nothing to release by default
        """Release what the source itself holds. Each DataSync that uses it calls
        this once, after its sessions.

        G10, G12: what was begun before ends now, not when the store answers again. A commit that
        has not been sent is never sent, and raises `WatchClosed`; one that has been sent and is not
        answered raises `OutcomeUnknown`; reads raise `WatchClosed`. Only the source can tell the
        two apart, so it is for the source to do.
        """
