"""memory:// - a store in this process: private, or shared by name (Go: kvdbsync/local)."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any
from weakref import WeakValueDictionary, ref

from datasync.capabilities import Capabilities
from datasync.errors import BadUrl, Conflict, HistoryLost, WrongLoop
from datasync.ordered import TOUCHED_LIMIT, OrderedKeys
from datasync.outcome import Tally, Verdict
from datasync.source import (
    Check,
    Commit,
    Committed,
    Delete,
    Frame,
    Held,
    Item,
    Operation,
    Progress,
    PushSession,
    Put,
    Reply,
    Result,
    Scopes,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    Soon,
    Source,
    held,
)
from datasync.texts import printable
from datasync.transports import Url

__all__ = ["MemorySession", "MemorySource", "from_url", "local", "result_of"]

_YIELD_EVERY = 128
_KEEP, _KEEP_BYTES = 1024, 16 << 20
_CHANGE_BYTES = 100
_STEP = 2048  # keys of a snapshot; then others get their turn of the loop

Changes = Sequence[tuple[str, bytes | None]]

_shared: dict[str, MemorySource] = {}


def from_url(url: Url) -> MemorySource:
    """`memory://` is a store of its own, `memory://name` the one of that name in this process."""
    if url.path or url.user:
        raise BadUrl(f"{url}: write memory:// or memory://name")
    return named(url.hosts) if url.hosts else MemorySource()


def named(name: str) -> MemorySource:
    """The shared store of that name; made on first use, and kept as long as the process lives."""
    return _shared.setdefault(name, MemorySource(name))


def local() -> MemorySource:
    """The store that all parts of the process share (Go: `local.Get()`);
    the same as `memory://local`."""
    return named("local")


class MemorySource(Source):
    """A dict with revisions, transactions, TTL and a log for those who come back.

    Belongs to one event loop, until that has ended and another one uses it.
    """

    capabilities = Capabilities(
        order="total",
        atomic=True,
        snapshot="exact",
        every_value=True,
        revisions=True,
        resume=True,
        ttl=True,
        cas=True,
        reply=True,
        durable=False,
    )

    def __init__(self, name: str = "") -> None:
        self.name = printable(f"memory://{name}")
        self._history = uuid.uuid4().hex
        self._items: dict[str, tuple[bytes, int]] = {}
        self._order = OrderedKeys()
        self._listings: WeakValueDictionary[str, _Listing] = WeakValueDictionary()
        self._snapshots: list[ref[Snapshot]] = []
        """Those that somebody may read."""
        self._revision = 0
        # what each of the last revisions changed, in two parts: when the newer one is full it
        # replaces the older one
        self._older: list[Changes] = []
        self._log: list[Changes] = []
        self._log_bytes = 0
        self._sessions: list[MemorySession] = []
        self._outbox: deque[Sequence[tuple[MemorySession, Part]]] = deque()
        self._sending = False
        self.widenings = Soon()
        """Of its sessions: called before the next write."""
        self._expiries: dict[str, tuple[float, asyncio.TimerHandle]] = {}
        self._writes = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        due: list[Part] = []
        if resume is None:
            added = scopes
        if added:
            for _ in self._order.sort_in_steps(self._items):
                await asyncio.sleep(0)
        if resume is not None:
            history, revision = resume
            log = self._older + self._log
            behind = revision + len(log) - self._revision
            if history != self._history:
                raise HistoryLost(f"{self.name} is another store now", changed=True)
            if behind < 0:
                raise HistoryLost(f"{self.name} keeps only the last transactions")
            missed = enumerate(log[behind:], revision + 1)
            due += (Commit((history, at), at, changes) for at, changes in missed)
        if added or resume is None:
            due.append(self._snapshot(Scopes(added)))
        return MemorySession(self, Scopes(scopes), due)

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        if asyncio.get_running_loop() is not self._loop:
            # asked here too, for a call costs much on this path
            self._enter()
        try:
            return self._commit(operations, reply)
        finally:
            self._writes += 1
            if self._writes >= _YIELD_EVERY:
                self._writes = 0
                # a writer that never waits must not starve the loop; only now: a later
                # write would overtake this one
                await asyncio.sleep(0)

    def _commit(self, operations: Sequence[Operation], reply: bool) -> Committed:
        if self.widenings.waiting:
            self.widenings.now()
        items, snapshots, expiries = self._items, self._snapshots, self._expiries
        for operation in operations:
            if type(operation) is Check:
                found = items.get(operation.key)
                if (0 if found is None else found[1]) != operation.revision:
                    raise Conflict(operation.key, operation.revision)
        revision = self._revision + 1
        changes: list[tuple[str, bytes | None]] = []
        existed: list[bool] = []
        size = 0
        for operation in operations:
            if type(operation) is Put:
                key, raw = operation.key, operation.raw
                if key not in items and self._order.touched is not None:
                    self._order.touched.append(key)
                if snapshots:
                    self._keep(key)
                items[key] = (raw, revision)
                changes.append((key, raw))
                size += len(raw)
                if operation.ttl is not None or key in expiries:
                    self._expire_in(key, operation.ttl)
            elif type(operation) is Delete:
                existed.append(self._delete(operation, changes))
        if changes:
            self._note(changes, size)
        touched = self._order.touched
        if touched and len(touched) > TOUCHED_LIMIT:
            self._order.trim()
        written = self._revision  # G10: handlers run within `_publish`, and may write as well
        if not reply:
            if changes:
                self._publish(changes, None)
            return Committed(written, existed)

        # G7: who watches a key that is deleted in vain accepts that, too
        if False in existed:
            deleted = (operation.key for operation in operations if type(operation) is Delete)
            vain = [(key, None) for key, found in zip(deleted, existed, strict=True) if not found]
            changes = [*changes, *vain]
        tally = Tally(expected=len(self._sessions) or 1)
        self._publish(changes, tally)
        return Committed(written, existed, tally.result or result_of(tally))

    @property
    def followers(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def joined(self, session: MemorySession) -> None:
        """A session is open."""
        self._enter()
        self._sessions.append(session)

    def widened(self, session: MemorySession, added: Scopes) -> None:
        """A session covers more: show it what there is, after whatever is on its way to it."""
        self._send([(session, self._snapshot(added, same_history=True))])

    def left(self, session: MemorySession) -> None:
        """A session is closed."""
        if session in self._sessions:
            self._sessions.remove(session)

    async def get(self, key: str) -> tuple[bytes, int] | None:
        return self._items.get(key)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        page, following = (self._listing(prefix) if token is None else token).page(limit)
        if keys_only:
            page = [(key, b"", at) for key, _, at in page]
        return page, following

    def _listing(self, prefix: str) -> Held:
        """The token of the first page; lists of the same state share what it holds."""
        known = self._listings.get(prefix)
        if known is None or known.revision != self._revision:
            keys = self._order.under(prefix, self._items)
            rows = ((key, *self._items[key]) for key in keys)
            known = self._listings[prefix] = _Listing(rows)
            known.revision, known.size = self._revision, held(known).size
        return Held(known, 0, known.size)

    def _snapshot(
        self, scopes: Scopes, reply: Reply | None = None, *, same_history: bool = False
    ) -> Snapshot:
        # none of these scopes lies in another, so they come in the order of what is in them
        items, within = self._items, self._order.within
        found = [within(scope, items) for scope in scopes.minimal()]
        keys = found[0] if len(found) == 1 else [*chain.from_iterable(found)]
        position = (self._history, self._revision)
        end = SnapshotEnd(position, self._revision, self._history, reply, same_history)
        snapshot = Snapshot(scopes, keys, items, end)
        self._snapshots.append(ref(snapshot, self._snapshots.remove))
        return snapshot

    def _keep(self, key: str) -> None:
        """Before it is written: what there is of it belongs to the snapshots on their way."""
        for reference in [*self._snapshots]:
            snapshot = reference()
            if snapshot is not None:
                snapshot.keep(key)

    def _delete(self, operation: Delete, changes: list[tuple[str, bytes | None]]) -> bool:
        if operation.prefix:
            keys = self._order.under(operation.key, self._items)
        else:
            keys = [operation.key] if operation.key in self._items else []
        if self._order.touched is not None:
            self._order.touched += keys
        for key in keys:
            if self._snapshots:
                self._keep(key)
            del self._items[key]
            changes.append((key, None))
            self._expire_in(key, None)
        return bool(keys)

    def _note(self, changes: Changes, size: int) -> None:
        """Give changes, with values of `size` bytes, the next revision."""
        self._revision += 1
        log = self._log
        log.append(changes)
        total = self._log_bytes = self._log_bytes + size + _CHANGE_BYTES * len(changes)
        if total >= _KEEP_BYTES or len(log) >= _KEEP:
            self._older, self._log, self._log_bytes = log, [], 0

    def _publish(self, changes: Changes, tally: Tally | None) -> None:
        """Bring the changes of the last revision to each session.

        tally: expects a vote of each, or where there is none one vote.
        """
        commit = Commit((self._history, self._revision), self._revision, changes, tally)
        sessions = self._sessions
        if len(sessions) == 1 and not self._sending:
            sessions[0].push(commit)
        elif sessions:
            self._send([(session, commit) for session in sessions])
        elif tally is not None:
            tally.add(Result(Verdict.UNWATCHED))

    def _send(self, parts: Sequence[tuple[MemorySession, Part]]) -> None:
        """Push to each session its part. Handlers run meanwhile, and may
        write: that goes out after."""
        self._outbox.append(parts)
        if self._sending:
            return
        self._sending = True
        try:
            while self._outbox:
                for session, part in self._outbox.popleft():
                    session.push(part)
        finally:
            self._sending = False

    def _expire_in(self, key: str, ttl: float | None) -> None:
        running = self._expiries.pop(key, None)
        if running is not None:
            running[1].cancel()
        if ttl is not None:
            loop = asyncio.get_running_loop()
            when = loop.time() + ttl
            self._expiries[key] = when, loop.call_at(when, self._expired, key, when)

    def _expired(self, key: str, when: float) -> None:
        self.widenings.now()
        running = self._expiries.get(key)
        if running is None or running[0] != when:  # G10: a handler has just written it
            return
        changes: list[tuple[str, bytes | None]] = []
        self._delete(Delete(key), changes)
        self._note(changes, 0)
        self._publish(changes, None)

    def _clear_log(self) -> None:
        """A session that resumes later gets a snapshot."""
        self._older, self._log, self._log_bytes = [], [], 0

    def _enter(self) -> None:
        """Move to this event loop. Raises `WrongLoop` while it is in use in another:
        handlers would run in this one."""
        before, loop = self._loop, asyncio.get_running_loop()
        if loop is before:
            return
        if before is not None and (
            before.is_running() or (self._sessions and not before.is_closed())
        ):
            raise WrongLoop(
                f"{self.name} is in use in another event loop; use it there, or another store here"
            )
        self._loop = loop
        self._sessions.clear()
        for key, (when, timer) in self._expiries.items():
            timer.cancel()
            self._expiries[key] = when, loop.call_at(when, self._expired, key, when)


class _Listing(list[Item]):
    """What lies under a prefix at one revision, as long as somebody reads it."""

    __slots__ = ("__weakref__", "revision", "size")
    revision: int
    size: int


def result_of(tally: Tally) -> asyncio.Future[Result]:
    """The result of one that has none yet."""
    result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    tally.listen(lambda found: None if result.done() else result.set_result(found))
    return result


class Snapshot:
    """What there was at one revision, as frames, in steps that hold up nobody for long.

    It reads what the store holds, step by step, for a copy of it all would hold up everybody. Of
    what is written meanwhile it shows nothing (G4): that is kept for it as it was.
    """

    def __init__(
        self,
        scopes: Scopes,
        keys: Sequence[str],
        items: Mapping[str, tuple[bytes, int]],
        end: SnapshotEnd,
    ) -> None:
        self._scopes = scopes
        self._keys = keys
        self._items = items
        self._end = end
        self._shown = ""  # the last key, for they come in order
        self._kept: dict[str, tuple[bytes, int]] = {}
        self.is_long = len(keys) > _STEP

    def keep(self, key: str) -> None:
        """It is about to be written: keep what it was at the revision, if it is yet to be shown."""
        item = self._items.get(key)
        if key > self._shown and item is not None and item[1] <= self._end.revision:
            self._kept[key] = item

    @property
    def frames(self) -> list[Frame]:
        """All of it at once."""
        return [frame for step in self for frame in step]

    def __iter__(self) -> Iterator[Sequence[Frame]]:
        yield (SnapshotBegin(list(self._scopes)),)
        items, kept = self._items, self._kept
        for start in range(0, len(self._keys), _STEP):
            keys = self._keys[start : start + _STEP]
            self._shown = keys[-1]
            yield (
                SnapshotChunk(
                    [(key, *(kept.pop(key) if key in kept else items[key])) for key in keys]
                ),
            )
        yield (self._end,)


Part = Commit | Snapshot
"""What goes to a session in one piece; nothing comes between the frames of a snapshot."""


class MemorySession(PushSession):
    """Pushes the commits of the store into one engine.

    A snapshot of many keys it does not push: its iterator yields that, step by step, and what comes
    about meanwhile is due after it.
    """

    def __init__(self, source: MemorySource, scopes: Scopes, due: Iterable[Part]) -> None:
        self.scopes = scopes
        self._source = source
        self._due: deque[Commit | Progress | Snapshot] = deque()
        self._sink: Callable[[Sequence[Frame]], None] | None = None
        self._push: Callable[[Sequence[Frame]], None] | None = None
        """The sink, while nothing is due that has to come first."""
        self._long = asyncio.Event()
        """A long snapshot is due next, or the session is closed."""
        self._level = asyncio.Event()
        """Nothing is due, or the session is closed."""
        self._closed = False
        for part in due:
            self.push(part)
        source.joined(self)

    def attach(self, push: Callable[[Sequence[Frame]], None]) -> None:
        self._sink = push
        self._bring()

    def widen(self, scopes: Sequence[str], added: Sequence[str]) -> None:
        # at little cost for each that is added, where there are many
        wider, self.scopes = self.scopes.joined(added), Scopes(scopes)
        if wider == self.scopes:
            self.scopes = wider
        self._source.widened(self, Scopes(added))

    def widen_soon(self, widen: Callable[[], None]) -> None:
        self._source.widenings.call(widen)

    def push(self, part: Part) -> None:
        """Bring what has just come about, as far as it concerns the scopes."""
        if isinstance(part, Snapshot):  # of these alone
            self._due.append(part)
            if self._push is not None:
                self._push = None
                self._level.clear()
                self._bring()
            return

        frame: Commit | Progress = part
        changes = self.scopes.keep(part.changes)
        if changes is not part.changes:
            if changes or part.reply is not None:
                frame = Commit(part.position, part.revision, changes, part.reply)
            else:
                frame = Progress(part.position, part.revision)
        if self._push is not None:
            self._push((frame,))
        else:
            self._due.append(frame)

    def _bring(self) -> None:
        """Push what is due, and what handlers write meanwhile, up to the next long snapshot."""
        assert self._sink is not None
        while self._due:
            part = self._due[0]
            frames: Sequence[Frame]
            if not isinstance(part, Snapshot):
                frames = (part,)
            elif part.is_long:
                self._long.set()
                return
            else:
                frames = part.frames
            self._due.popleft()
            self._sink(frames)
        self._push = self._sink
        self._level.set()

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        while True:
            await self._long.wait()
            if self._closed:
                return
            self._long.clear()
            snapshot = self._due.popleft()
            assert isinstance(snapshot, Snapshot)
            for frames in snapshot:
                yield frames
                await asyncio.sleep(0)
                if self._closed:
                    return
            del snapshot  # from now on nothing need be kept for it
            self._bring()

    async def caught_up(self) -> None:
        """G1: after a snapshot that is on its way there may be commits that were acknowledged."""
        await self._level.wait()

    async def aclose(self) -> None:
        self._closed = True
        self._long.set()
        self._level.set()
        self._source.left(self)
