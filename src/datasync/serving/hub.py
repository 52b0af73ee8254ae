"""The hub: one session to a source, and any number of remote watchers that follow it from here.

It keeps the state, and a log of the last commits. A watcher reads from the log by itself, as fast
as it can: what it has not read costs nothing, and one that falls behind the log gets a snapshot
again. Each commit is encoded once for all watchers that want the same of it, in the same form.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

import msgspec

from datasync.capabilities import Capabilities
from datasync.errors import DataSyncError, Disconnected, HistoryLost
from datasync.options import Options
from datasync.ordered import OrderedKeys
from datasync.outcome import Verdict
from datasync.scopes import is_prefix
from datasync.serving.images import Image, Images
from datasync.serving.log import CommitLog, Encode, Entry
from datasync.serving.pulse import Pulse
from datasync.shared import closed_on_error
from datasync.source import (
    Commit,
    Frame,
    Item,
    Progress,
    Result,
    Scopes,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    Source,
)
from datasync.syncbase.core import Layer
from datasync.syncbase.feed import Feed
from datasync.syncbase.mirror import Staging
from datasync.tasks import end_tasks

__all__ = ["ASSUMED_CAPABILITIES", "Encode", "Hub", "Subscription"]

T = TypeVar("T")

ASSUMED_CAPABILITIES = Capabilities(
    order="total",
    atomic=True,
    snapshot="exact",
    every_value=True,
    revisions=True,
    resume=True,
    ttl=True,
    cas=True,
    reply=False,
    durable=True,
)
"""What the client of a hub goes by, until the server has told what its own source can promise."""
_UNWATCHED = Result(Verdict.UNWATCHED)
_BOOKMARK = 0.1
"""Seconds after which a watcher hears of commits that do not concern it, ..."""
_BOOKMARKS_A_SECOND = 2000
"""... or later, where there are many watchers: bookmarks a second, for all of them together."""
_ALL = Scopes([""])
_BATCH = 256 << 10
"""Bytes of commits, about, that a watcher is given at a time."""
_PROOFS = 8
"""Watchers of another run of the server whose history is proven at a time."""
_PROVEN = 1024
"""Positions that are known to be proven at most, and characters of one."""


class Hub:
    """Follows a source, and lets many watchers follow it. `async with` starts
    and ends it, the source with it.

    source: writes and reads go to it directly.
    options: how the hub reconnects.
    """

    def __init__(self, source: Source, options: Options = Options()) -> None:  # noqa: B008 - frozen
        self.source = source
        self.revision = 0
        self.history = ""
        self.watchers: set[Subscription[Any]] = set()
        self.closed = False

        self.log = CommitLog(uuid.uuid4().hex)
        self.images = Images()
        self.pulse = Pulse()

        self.promised = self._promises
        """What its watchers were told that they may rely on."""

        self._options = options
        self._changed = False
        self._histories = 0
        """How many histories the source has had that began without a name of their own."""

        self._items: dict[str, Item] = {}
        self._staging: dict[str, Item] | None = None
        self._order = OrderedKeys()
        self._in_use: WeakValueDictionary[frozenset[str], Scopes] = WeakValueDictionary()

        self._layer = Layer(0, source.name, source.capabilities, optional=False)
        self._feed: Feed | None = None
        self._task: asyncio.Task[None] | None = None
        self._answered = asyncio.Event()

        self._proofs = asyncio.Semaphore(_PROOFS)
        self._proven: set[str] = set()
        """Positions of the source that the present session is known to have come after: those who
        come back together mostly stood at the same ones, and share a proof."""

        self._bookmark: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Connect, unless it has been started. Returns when the source has been tried once.

        Raises `Unauthorized`, `BadStore`, `UsageError`.
        """
        if self._task is not None:
            return
        self.closed = False
        rng = random.Random()  # noqa: S311 - for jitter
        self._feed = Feed(
            self.source, self._layer, self, self._options, rng, time.time, lambda: None
        )
        self._task = asyncio.get_running_loop().create_task(
            self._feed.run(), name=f"datasync hub {self.source.name}"
        )
        async with closed_on_error(self.aclose):
            await self._feed.first

    async def aclose(self) -> None:
        """End the session and the source; watchers get `Disconnected`."""
        self.closed = True
        self.images.close(self.ended)
        self._answered.set()
        self._wake_all()
        if self._bookmark is not None:
            self._bookmark.cancel()
        task, self._task = self._task, None
        if task is not None:
            assert self._feed is not None
            try:
                await end_tasks(task)  # a feed ends within its own close_timeout
            finally:
                self._feed.close()
                self._feed = None  # G9: it leads back here
                await self.source.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def ready(self) -> bool:
        """Whether a snapshot of the source is complete."""
        return self._layer.ready

    @property
    def following(self) -> bool:
        """Whether it has been started and not ended: it then has one session
        of the source, or tries to."""
        return self._task is not None

    @property
    def capabilities(self) -> Capabilities:
        """What watchers may rely on: the log lets them resume, and nobody
        asks them for a verdict."""
        return msgspec.structs.replace(self.source.capabilities, resume=True, reply=False)

    @property
    def ended(self) -> str:
        """What watchers hear at the end."""
        return f"{self.source.name} is not served any more"

    @property
    def _promises(self) -> tuple[Capabilities, bool]:
        return self.capabilities, self.source.forwards_verdicts

    @property
    def keys(self) -> int:
        """How many keys it holds."""
        return len(self._items)

    @property
    def remote_watchers(self) -> list[Subscription[Any]]:
        """Those that a status shows."""
        return [watcher for watcher in self.watchers if watcher.shown]

    @property
    def feed(self) -> Feed | None:
        """Where the session stands: its state, since when, and the last error."""
        return self._feed

    def subscribe(
        self,
        scopes: Sequence[str],
        resume: str | None = None,
        added: Sequence[str] = (),
        *,
        encode: Encode[T],
        peer: str = "",
        shown: bool = True,
    ) -> Subscription[T]:
        """Watch `scopes`, from a snapshot on, or after `resume`, the position of an earlier frame.

        With `resume`, the `added` scopes come as a snapshot, as `Source.open` has it. peer: who it
        is, as a status names it. shown: whether a status counts it; False for the status page's own
        stream. Raises `HistoryLost` where it cannot be told what was missed.
        """
        seq = None if resume is None else self.log.seq_of(resume)
        scoped = self._scopes(added) if added else None
        return Subscription(self, self._scopes(scopes), seq, scoped, encode, peer, shown)

    def _scopes(self, names: Iterable[str]) -> Scopes:
        """Those who ask for the same share it: whether two are equal is asked at each commit, and
        costs as much as there are scopes in them unless they are one."""
        asked = frozenset(names)
        scopes = self._in_use.get(asked)
        if scopes is None:
            scopes = self._in_use[asked] = Scopes(asked)
        return scopes

    async def prove(self, resume: str) -> None:
        """G3: a watcher of an earlier run of this server, or from before its source took another
        snapshot, is told where the source has another history by now.

        Call it before `subscribe`, which tells the rest. Raises `HistoryLost`; `Disconnected` and
        the like where the source cannot tell now.
        """
        text, proven = self.log.unproven(resume), self._proven
        if not text or text in proven:
            return
        async with self._proofs:
            if text not in proven:
                await self._prove(text)
                if len(text) <= _PROVEN and len(proven) < _PROVEN:
                    proven.add(text)

    async def _prove(self, text: str) -> None:
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                session = await self.source.open([], json.loads(text))
        except TimeoutError:
            raise Disconnected(f"{self.source.name} does not answer now") from None
        except HistoryLost as lost:
            if lost.changed:
                raise
        except DataSyncError:
            raise
        except Exception:
            # what a client sent is not a position of this source: nothing is proven, and it takes a
            # snapshot
            return
        else:
            await session.aclose()

    def ask(self) -> int:
        """Ask the source what it has acknowledged up to now, to anybody. All of it is
        here once `fresh` has reached the number that this returns; those who ask at
        the same time share an answer."""
        self._layer.registered += 1
        if self._feed is not None:
            self._feed.registered(wider=False)
        return self._layer.registered

    @property
    def fresh(self) -> int:
        """Which of those who asked, see `ask`, have their answer."""
        return self._layer.fresh

    async def catch_up(self) -> str | None:
        """Wait until all that the source had acknowledged is here. Returns the position
        that it then stands at, None where the source has not been given a state yet.
        Raises `Disconnected` at the end."""
        asked = self.ask()
        while self.fresh < asked:
            if self.closed:
                raise Disconnected(self.ended)
            await self._answered.wait()
        return self.log.position(self.log.seq) if self.ready else None

    def covering(self, scopes: Scopes) -> Scopes:
        """Watchers of everything share what is made for them, in whatever words they ask."""
        items, order = self._items, self._order
        count = sum(
            order.count(scope, items) if is_prefix(scope) else scope in items
            for scope in scopes.minimal()
        )
        return _ALL if count == len(items) else scopes

    def image(self, scopes: Scopes) -> Image:
        """The state of these scopes as of now. Looks at what lies in them alone, however much there
        is beside it."""
        items, within = self._items, self._order.within
        found = [items[key] for scope in scopes.minimal() for key in within(scope, items)]
        seq = self.log.seq
        end = SnapshotEnd(self.log.position(seq), self.revision, self.history)
        return Image(seq, found, end)

    # -- what the feed brings ----------------------------------------------------------------------

    def opening(self, layer: Layer) -> tuple[list[str], Any, list[str]]:
        self._staging = layer.staging = None
        return [""], layer.position if layer.can_resume and layer.ready else None, []

    def widening(self, layer: Layer) -> tuple[list[str], list[str]]:
        return [""], []  # never asked: there is nothing outside

    def switched(self, layer: Layer, scopes: Sequence[str]) -> None:
        pass

    def caught_up(self, layer: Layer, registered: int) -> None:
        layer.fresh = max(layer.fresh, registered)
        self._answered.set()
        self._answered = asyncio.Event()
        for watcher in self.watchers:
            watcher.answered(layer.fresh)

    def opened(self, layer: Layer, *, resumed: bool) -> None:
        """G10: a source that stands for another knows only now what that one can promise. Who was
        told otherwise has to connect again, before anything of it is shown."""
        if self._promises != self.promised:
            self.promised = self._promises
            self._wake_all()

    def lost(self, layer: Layer, error: Exception) -> None:
        self._staging = layer.staging = None
        self._proven = set()  # not cleared: a proof that is under way tells of the session before
        if isinstance(error, HistoryLost):
            layer.position = None
            self._changed |= error.changed

    def frame(self, layer: Layer, frame: Frame) -> None:
        match frame:
            case Commit():
                self.commit(layer, frame)
            case SnapshotBegin():
                self._staging, layer.staging = {}, Staging()
            case SnapshotChunk(items) if self._staging is not None:
                self._staging.update((item[0], item) for item in items)
            case SnapshotEnd() if self._staging is not None:
                self._replace(layer, frame, self._staging)
            case Progress(position, revision):
                self._stand_at(layer, position)
                if revision > self.revision:
                    self.revision = revision
                    self._bookmark_soon()

    def commit(self, layer: Layer, frame: Commit) -> None:
        self._stand_at(layer, frame.position)
        revision, items = frame.revision, self._items
        changes = [
            change for change in frame.changes if change[1] is not None or change[0] in items
        ]
        before = {key: items[key][1] for key, _ in changes if key in items}
        for key, raw in changes:
            if raw is None:
                del items[key]
            else:
                items[key] = (key, raw, revision)
        if self._order.touched is not None:
            self._order.touched += [key for key, raw in changes if raw is None or key not in before]
            self._order.trim()
        self._append(revision, changes, before)
        if frame.reply is not None:
            frame.reply(_UNWATCHED)  # remote watchers are not asked

    def _stand_at(self, layer: Layer, position: Any) -> None:
        layer.position = position
        # what does not outlive its process has another name in each
        self.log.stand_at(position if self.source.capabilities.durable else None)

    def _append(
        self,
        revision: int,
        changes: Sequence[tuple[str, bytes | None]],
        before: Mapping[str, bytes],
    ) -> None:
        self.revision = max(self.revision, revision)
        if changes:
            entry = self.log.append(revision, changes, before)
            self.pulse.add(len(changes))
            self.images.forget()
            for watcher in list(self.watchers):
                watcher.committed(entry)
        self._bookmark_soon()

    def _replace(self, layer: Layer, frame: SnapshotEnd, items: dict[str, Item]) -> None:
        """A snapshot is complete: all watchers begin again with it, unless they
        have seen all that came before."""
        old, self._items, self._staging, layer.staging = self._items, items, None, None
        self._order.forget()
        self._stand_at(layer, frame.position)
        if frame.same_history and layer.ready:
            changes: list[tuple[str, bytes | None]] = [
                (key, None) for key in old if key not in items
            ]
            changes += [
                (key, raw) for key, raw, _ in items.values() if key not in old or old[key][1] != raw
            ]
            self._append(
                frame.revision, changes, {key: old[key][1] for key, _ in changes if key in old}
            )
        else:
            layer.ready = True
            self._begin(frame)
        if frame.reply is not None:
            frame.reply(_UNWATCHED)

    def _begin(self, frame: SnapshotEnd) -> None:
        if self._changed:
            # the source's name of its history may be the same: remote watchers are told by another
            # name
            self._changed, self._histories = False, self._histories + 1
        history = f"{frame.history}+{self._histories}" if self._histories else frame.history
        self.revision, self.history = frame.revision, history
        self.log.restart()
        self.images.forget()
        self._wake_all()

    # -- watchers ----------------------------------------------------------------------------------

    def _bookmark_soon(self) -> None:
        if self._bookmark is None and self.watchers:
            after = max(_BOOKMARK, len(self.watchers) / _BOOKMARKS_A_SECOND)
            self._bookmark = asyncio.get_running_loop().call_later(after, self._bookmark_now)

    def _bookmark_now(self) -> None:
        self._bookmark = None
        self._wake_all()

    def _wake_all(self) -> None:
        for watcher in list(self.watchers):
            watcher.wake()


class Subscription(AsyncIterator[list[T]]):
    """One watcher: iterates over lists of encoded frames, without an end. Made by `Hub.subscribe`.

    A snapshot may come again later, where the source took one, or where the watcher was
    too slow for the log. Raises `Disconnected` when the hub closes, or a snapshot is read
    so slowly that it is given up.
    """

    def __init__(
        self,
        hub: Hub,
        scopes: Scopes,
        seq: int | None,
        added: Scopes | None,
        encode: Encode[T],
        peer: str,
        shown: bool,
    ) -> None:
        self.peer = peer
        self.shown = shown
        self._hub = hub
        self._scopes = scopes
        self._seq = seq
        self._added = added
        self._encode = encode
        self._promised = hub.promised
        self._told = (-1, 0)
        """What the last frame said: number of the commit, and revision. At first
        nothing, so that a bookmark comes."""
        # G1: a snapshot holds all that the source had acknowledged, to
        # anybody, before it was asked for
        self._asked = hub.ask() if seq is None or added is not None else 0
        self._woken: asyncio.Future[None] | None = None
        self._frames = self._run()

    async def __anext__(self) -> list[T]:
        return await anext(self._frames)

    async def aclose(self) -> None:
        """End the iteration; what it kept is released."""
        await self._frames.aclose()

    @property
    def scopes(self) -> list[str]:
        """What it watches."""
        return list(self._scopes)

    @property
    def behind(self) -> int | None:
        """How many commits of the log it has not read; None while it reads a snapshot."""
        return None if self._seq is None else self._hub.log.seq - self._seq

    def committed(self, entry: Entry) -> None:
        """There is something new in the log."""
        if self._woken is not None and entry.concerns(self._scopes):
            self.wake()

    def answered(self, fresh: int) -> None:
        """The hub has all that the source had acknowledged when so many had asked."""
        if 0 < self._asked <= fresh:
            self._asked = 0
            self.wake()

    def wake(self) -> None:
        """Go on, if it waits."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _run(self) -> AsyncGenerator[list[T], None]:
        hub, log = self._hub, self._hub.log
        hub.watchers.add(self)

        try:
            while True:
                self._check()
                if not hub.ready or hub.fresh < self._asked:
                    await self._wait()
                elif self._seq is None or self._seq < log.floor:
                    async with hub.images.read(self._scopes, hub) as image:
                        for some in self._snapshot(self._scopes, image):
                            yield some
                elif self._added is not None:
                    async with hub.images.read(self._added, hub) as image:
                        for some in self._widened(self._seq, self._added, image):
                            yield some
                else:
                    frames = self._behind(self._seq)
                    if frames is None:
                        await self._wait()
                    elif frames:
                        yield frames
        finally:
            hub.watchers.discard(self)

    def _check(self) -> None:
        """Raise `Disconnected` where this cannot go on."""
        if self._hub.closed:
            raise Disconnected(self._hub.ended)
        if self._promised is not self._hub.promised:
            raise Disconnected(f"{self._hub.source.name} promises something else; connect again")

    def _behind(self, seq: int) -> list[T] | None:
        """The next commits, and a bookmark where the last of them did not concern this watcher;
        None where there is nothing new."""
        hub, log = self._hub, self._hub.log
        entries = log.read(seq, _BATCH)
        self._seq = seq + len(entries)
        frames = self._encoded(seq, entries)
        if self._seq == log.seq and self._told != (log.seq, hub.revision):
            self._told = (log.seq, hub.revision)
            frames = [*frames, log.bookmark(hub.revision, self._encode)]
        return frames if frames or entries else None

    def _snapshot(self, scopes: Scopes, image: Image) -> Iterator[list[T]]:
        self._check()  # it may have waited for its turn
        for frame in image.encoded(scopes, self._encode):
            if image.revoked:
                raise Disconnected(
                    "the snapshot was read too slowly while others waited for theirs; connect again"
                )
            yield [frame]
        self._seq, self._added = image.seq, None
        self._told = (image.seq, image.revision)

    def _widened(self, seq: int, added: Scopes, image: Image) -> Iterator[list[T]]:
        """All that is due up to the image, then a snapshot of the added scopes."""
        if seq < self._hub.log.floor:
            return  # by now, and all of it is due
        due = self._encoded(seq, self._hub.log.between(seq, image.seq))
        if due:
            yield due
        yield from self._snapshot(added, image)

    def _encoded(self, seq: int, entries: Sequence[Entry]) -> list[T]:
        """The frames of these entries; the same list for all that stand at the
        same position and want the same."""
        if not entries:
            return []
        frames, told = self._hub.log.encoded(seq, entries, self._scopes, self._encode)
        self._told = told or self._told
        return frames

    async def _wait(self) -> None:
        """Until something new is in the log; the hub wakes everybody now
        and then, and at its end."""
        self._woken = asyncio.get_running_loop().create_future()
        try:
            await self._woken
        finally:
            self._woken = None
