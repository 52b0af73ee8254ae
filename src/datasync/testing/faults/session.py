"""The sessions of a FaultySource: from its log to frames, as its capabilities say."""

from __future__ import annotations

import asyncio
import bisect
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import msgspec

from datasync.errors import Disconnected
from datasync.outcome import Verdict
from datasync.source import (
    Commit,
    Frame,
    Progress,
    PushSession,
    Reply,
    Result,
    Scopes,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
)
from datasync.testing.faults.store import FaultyStore, Position

__all__ = ["FaultyPushSession", "FaultySession"]


class Due(msgspec.Struct):
    """A snapshot that a session still has to hand over."""

    scopes: Sequence[str]
    reply: Reply | None = None
    same_history: bool = False


class FaultySession(Session):
    """One connection to a FaultySource, which moves it by `wake`, `cut`,
    `resync` and `progress`."""

    def __init__(
        self,
        store: FaultyStore,
        history: int,
        scopes: Sequence[str],
        resume: Position | None,
        added: Sequence[str],
    ) -> None:
        self._store = store
        self._history = history

        self._scopes = list(scopes)
        self._wanted = Scopes(scopes)
        self._at = [0] * store.partitions if resume is None else list(resume.at)

        # fuzzy: up to which key a chunk reached, and where the log was then
        self._reads: list[tuple[str, int]] = []
        self._read_scopes = Scopes()

        self._due: list[Due] = []
        self._bookmark = False
        self._cut: tuple[int, BaseException] | None = None

        self._error: BaseException | None = None
        self._closed = False
        self._handing = False

        self._taken = 0 if resume is None else min(resume.at)
        """How much of the log the engine has taken over."""
        self._moved = asyncio.Event()
        self._wakeup = asyncio.Event()

        self._fresh = resume is None
        self._known = Scopes(scope for scope in scopes if scope not in added)
        self._hurried = len(store.log) if added else 0
        """Up to where the log is shown though the source lags behind."""

        if self._fresh or added:
            self._due.append(Due(scopes if self._fresh else added))
        self._frames: Iterator[Frame | None] = self._make()

    # -- what the source does with it --------------------------------------------------------------

    def wake(self) -> None:
        """There may be something new."""
        self._wakeup.set()

    def cut(self, after: int, error: BaseException) -> None:
        """End with `error` after `after` more frames."""
        self._cut = (after, error)
        if not after:
            self._break(error)

    def resync(self, reply: Reply | None) -> None:
        """Hand over everything again."""
        self._due.append(Due(self._scopes, reply))
        self.wake()

    def progress(self) -> None:
        """Say how far it is."""
        self._bookmark = True
        self.wake()

    # -- the session -------------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        store = self._store
        while True:
            self._wakeup.clear()
            self._note_taken()
            await self._thaw()
            frames = self._take(store.batch if store.delay <= 0 else 1)
            if frames and store.delay > 0:
                await store.pause(store.delay)
                await self._thaw()
            if self._error is not None and not frames:
                raise self._error
            if self._closed:
                return
            if frames:
                yield frames
            else:
                await self._wakeup.wait()

    async def ping(self) -> None:
        await self._store.answer()
        self._store.stumble("ping")
        if self._error is not None:
            raise self._error

    async def caught_up(self) -> None:
        await self._store.answer()
        self._store.stumble("caught_up")
        goal = self._hurried = len(self._store.log)
        self.wake()
        while True:
            # also where nothing is left to take: another history may have begun
            # meanwhile, of which it shows nothing
            if self._error is not None or self._closed:
                raise self._error or Disconnected(f"{self._store.name}: the session is closed")
            if self._taken >= goal and not self._due:
                return
            self._moved.clear()
            await self._moved.wait()

    async def aclose(self) -> None:
        self._closed = True
        self._frames = itertools.repeat(None)  # G9: they lead back here
        self._store.left(self)
        self._wakeup.set()
        self._moved.set()
        self._store.stumble("aclose")

    def _note_taken(self) -> None:
        if not self._handing and not self._due:
            self._taken = min(self._at)
            self._moved.set()

    async def _thaw(self) -> None:
        while self._error is None and (hanging := self._store.hanging) is not None:
            thawed = asyncio.ensure_future(hanging.wait())
            broken = asyncio.ensure_future(self._wakeup.wait())
            try:
                await asyncio.wait((thawed, broken), return_when=asyncio.FIRST_COMPLETED)
            finally:
                thawed.cancel()
                broken.cancel()
            if not hanging.is_set():
                self._wakeup.clear()

    # -- frames ------------------------------------------------------------------------------------

    def _take(self, limit: int) -> list[Frame]:
        """The next frames, at most `limit`; a cut that is due comes before them."""
        frames: list[Frame] = []
        while len(frames) < limit and self._error is None:
            frame = next(self._frames)
            if frame is None:
                break
            frames.append(frame)
            if self._cut is not None:
                after, error = self._cut
                self._cut = (after - 1, error)
                if after <= 1:
                    self._break(error)
        return frames

    def _break(self, error: BaseException) -> None:
        self._error = error
        self._store.left(self)
        self._wakeup.set()
        self._moved.set()

    def _make(self) -> Iterator[Frame | None]:
        """All frames of the session, one after another; None where there is nothing (yet)."""
        store = self._store
        while True:
            if self._due:
                self._hurried = len(store.log)  # a snapshot stands after all that it holds
            frame = None if self._fresh else self._step()
            if frame is not None:
                yield frame
            elif self._due:
                self._fresh = False
                self._at = [len(store.log)] * store.partitions
                self._handing = True
                yield from self._snapshot(self._due.pop(0))
                self._handing = False
            elif self._bookmark:
                self._bookmark = False
                yield Progress(self._position(), self._revision())
            else:
                yield None

    def _snapshot(self, due: Due) -> Iterator[Frame]:
        store, scopes, wanted = self._store, due.scopes, Scopes(due.scopes)

        began = len(store.log)
        revision = self._revision()
        replies = [] if due.reply is None else [due.reply]

        for logged in store.log[:began]:
            if logged.replies and any(key in wanted for key, _ in logged.changes):
                replies += filter(None, [logged.take(self)])

        items = store.under(wanted)
        yield SnapshotBegin(list(scopes))

        if store.capabilities.snapshot == "exact":
            for start in range(0, len(items), store.chunk):
                yield SnapshotChunk(items[start : start + store.chunk])
        else:
            self._reads, self._read_scopes, last = [], wanted, ""
            while items := [item for item in store.under(wanted) if item[0] > last][: store.chunk]:
                last = items[-1][0]
                self._reads.append((last, len(store.log)))
                yield SnapshotChunk(items)
            self._reads.append(("\U0010ffff", len(store.log)))

        self._known = Scopes((*self._known, *scopes))
        yield SnapshotEnd(
            self._position(), revision, store.history, _all(replies), due.same_history
        )

    def _step(self) -> Frame | None:
        """The next commit that this session has to show; None where there is none."""
        store = self._store
        while True:
            shown = max(self._hurried, store.shown())
            behind = [number for number, at in enumerate(self._at) if at < shown]
            if not behind:
                return None

            number = behind[0] if len(behind) == 1 else store.rng.choice(behind)
            at = self._at[number]
            self._at[number] += 1
            logged = store.log[at]

            changes = [change for change in logged.changes if self._shows(at, number, change[0])]
            if changes:
                reply = logged.take(self)
                shown = logged.revision if store.capabilities.revisions else 0
                return Commit(
                    self._position(), shown, changes, _all([] if reply is None else [reply])
                )

            # by a snapshot to come
            expected = any(key in self._wanted for key, _ in logged.changes)
            if logged.replies and not expected and (reply := logged.take(self)) is not None:
                reply(Result(Verdict.UNWATCHED))  # nobody watches any of it
            if store.bookmarks:
                return Progress(self._position(), self._revision())

    def _shows(self, at: int, number: int, key: str) -> bool:
        store = self._store
        if key not in self._known or store.partition(key) != number:
            return False
        if self._reads and key in self._read_scopes:
            read_at = self._reads[bisect.bisect_left(self._reads, (key, 0))][1]
            if at < read_at:
                return False
        if store.capabilities.every_value:
            return True
        # a newer value stands for it, but not one that comes only after the session
        # has said that it has caught up
        end = self._hurried if at < self._hurried else store.shown()
        return not any(
            key == later for logged in store.log[at + 1 : end] for later, _ in logged.changes
        )

    def _position(self) -> Position:
        return Position(self._history, tuple(self._at))

    def _revision(self) -> int:
        """Everything up to this revision has been handed over."""
        store, at = self._store, min(self._at)
        if not store.capabilities.revisions:
            return 0
        return store.log[at].revision - 1 if at < len(store.log) else store.revision


def _all(replies: Sequence[Reply]) -> Reply | None:
    if not replies:
        return None

    def reply(result: Result) -> None:
        for one in replies:
            one(result)

    return reply


class FaultyPushSession(FaultySession, PushSession):
    """The same, but it pushes its frames."""

    _push: Callable[[Sequence[Frame]], None] | None = None
    _pushing = False

    def attach(self, push: Callable[[Sequence[Frame]], None]) -> None:
        self._push = push
        self._pump()

    def wake(self) -> None:
        super().wake()
        self._pump()

    def widen(self, scopes: Sequence[str], added: Sequence[str]) -> None:
        self._store.stumble("widen")
        self._scopes, self._wanted = list(scopes), Scopes(scopes)
        self._hurried = len(self._store.log)
        self._due.append(Due(added, same_history=True))
        self._pump()

    def widen_soon(self, widen: Callable[[], None]) -> None:
        self._store.widenings.call(widen)

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        while self._error is None and not self._closed:
            self._wakeup.clear()
            await self._wakeup.wait()
        if self._error is not None:
            raise self._error
        return
        yield  # an async generator that yields nothing

    def _pump(self) -> None:
        if self._push is None or self._pushing:
            return
        self._pushing = True
        try:
            while frames := self._take(1):
                self._push(frames)
            self._note_taken()
        finally:
            self._pushing = False
