"""The store behind a FaultySource: what it holds, how that came about, and
what goes wrong with it."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from datasync.capabilities import Capabilities
from datasync.errors import (
    Disconnected,
    OutcomeUnknown,
    UnsupportedOption,
    WatchClosed,
)
from datasync.outcome import Reply, Tally, Verdict
from datasync.source import (
    Item,
    Result,
    Scopes,
    Soon,
)

__all__ = ["EXACT", "Call", "FaultyStore", "Follower", "Logged", "Observer", "Position"]

Call = Literal["open", "commit", "ping", "caught_up", "widen", "aclose"]
"""What is asked of a source or of its sessions."""


EXACT = Capabilities(
    order="total",
    atomic=True,
    snapshot="exact",
    every_value=True,
    revisions=True,
    resume=True,
    ttl=True,
    cas=True,
    reply=False,
    durable=False,
)
"""What a FaultySource promises unless told otherwise; vary it by `msgspec.structs.replace`."""


class Observer(Protocol):
    """Who wants to know what is committed; a `Recorder` does."""

    def committed(
        self, source: str, changes: Mapping[str, bytes | None], revision: int = 0
    ) -> None:
        """Something was committed."""

    def history_started(
        self, source: str, history: str, revision: int, items: Sequence[Item]
    ) -> None:
        """A new history begins with these items."""


class Follower(Protocol):
    """A session, as the store moves it."""

    def wake(self) -> None:
        """There may be something new."""

    def cut(self, after: int, error: BaseException) -> None:
        """End with `error` after `after` more frames."""

    def resync(self, reply: Reply | None) -> None:
        """Hand over everything again."""

    def progress(self) -> None:
        """Say how far it is."""


class Logged(msgspec.Struct):
    """One commit in the log of the source. `at`: from when on sessions show
    it, by the clock of the loop."""

    revision: int
    changes: tuple[tuple[str, bytes | None], ...]
    at: float = 0.0
    replies: dict[Follower | None, Reply] = {}
    """The replies still to be handed over: to each session that was open,
    or else to the next one."""
    voters: int = 0

    def asks(self, reply: Reply, sessions: Sequence[Follower]) -> None:
        """All these sessions have a say in the verdict."""
        self.voters = len(sessions)
        self.replies = {None: reply}
        if sessions:
            tally = Tally((reply,), expected=1 + len(sessions))
            self.replies = dict.fromkeys(sessions, tally.add)
            tally.close()

    def take(self, session: Follower) -> Reply | None:
        """The reply that goes with the commit in that session."""
        return self.replies.pop(session, None) or self.replies.pop(None, None)

    def left(self, session: Follower) -> None:
        """The session has ended: another one that has a say shows the
        commit, or else the next one does."""
        reply = self.replies.pop(session, None)
        if reply is not None:
            if self.voters > 1:
                self.voters -= 1
                reply(Result(Verdict.UNWATCHED))
            else:
                self.replies[None] = reply


class Position(msgspec.Struct, frozen=True):
    """How far a session is in the log of a history, for each partition."""

    history: int
    at: tuple[int, ...]


class FaultyStore:
    """A whole store in this process, and a hand on everything that can go wrong
    with it; see `FaultySource`."""

    name: str
    capabilities: Capabilities

    def __init__(
        self,
        values: Mapping[str, bytes] | None = None,
        *,
        name: str = "faulty",
        capabilities: Capabilities = EXACT,
        chunk: int = 2,
        batch: int = 4,
        delay: float = 0.0,
        partitions: int = 2,
        push: bool = False,
        bookmarks: bool = False,
        observer: Observer | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if capabilities.snapshot == "fuzzy" and capabilities.resume:
            raise UnsupportedOption(
                "a FaultySource with fuzzy snapshots cannot resume; set resume=False"
            )

        self.name = name
        self.capabilities = capabilities
        self.chunk = chunk
        self.batch = batch
        self.delay = delay

        self.lag = 0.0
        """Seconds that sessions show a commit after it was acknowledged, unless
        they are asked to catch up."""
        self.write_delay = 0.0
        """Seconds that an acknowledgement of a write takes to come back."""
        self.partitions = partitions if capabilities.order == "key" else 1
        self.bookmarks = bookmarks and capabilities.order == "total"
        self.rng = rng or random.Random(0)  # noqa: S311 - a schedule, no secret

        self.log: list[Logged] = []
        """The commits of the present history."""
        self.state: dict[str, tuple[bytes, int]] = {}
        """What the store holds: the raw value and revision of each key."""
        self.revision = 0
        self.replies: list[tuple[int, Result]] = []
        """The verdicts that came back for commits written with a reply, by revision."""

        self.opened = 0
        """How many sessions were opened so far."""
        self.widenings = Soon()

        self._observer = observer
        self._push = push

        self._histories = 1
        self._compacted = 0
        self._sessions: list[Follower] = []

        self._cut_next: tuple[int, BaseException] | None = None
        self._raising: list[tuple[Call, BaseException]] = []
        self._down: Exception | None = None
        self._lost_acknowledgements = 0
        self._verdicts: set[asyncio.Future[Result]] = set()

        self._hanging: asyncio.Event | None = None
        self._hanging_open: asyncio.Event | None = None
        self._users = 0

        if observer is not None:
            self.observe(observer)
        if values:
            self.write(values)

    @property
    def history(self) -> str:
        """The identity of the present history."""
        return f"h{self._histories}" if self.capabilities.revisions else ""

    @property
    def values(self) -> dict[str, bytes]:
        """The raw value of every key that the store holds now."""
        return {key: self.state[key][0] for key in sorted(self.state)}

    def partition(self, key: str) -> int:
        """The group of keys that `key` belongs to; order is kept within it."""
        return zlib.crc32(key.encode()) % self.partitions if self.partitions > 1 else 0

    def observe(self, observer: Observer) -> None:
        """Tell `observer` what is there, and from now on what is committed."""
        self._observer = observer
        items = [(key, raw, at) for key, (raw, at) in sorted(self.state.items())]
        observer.history_started(self.name, self.history, self._shown(self.revision), items)

    # -- the data ----------------------------------------------------------------------------------

    def write(
        self, changes: Mapping[str, bytes | None], reply: Callable[[Result], None] | None = None
    ) -> int:
        """Commit, as somebody else who writes to the same store: new bytes by key, None
        deletes. Returns the revision.

        `reply` is called with the verdict of the watches behind it, where the source has `reply`.
        Where it is not `atomic`, each key is a commit of its own.
        """
        if self.widenings.waiting:
            self.widenings.now()

        groups = (
            [changes] if self.capabilities.atomic else [{key: raw} for key, raw in changes.items()]
        )
        for group in groups:
            self.revision += 1
            for key, raw in group.items():
                if raw is None:
                    self.state.pop(key, None)
                else:
                    self.state[key] = (raw, self._shown(self.revision))

            last = group is groups[-1]
            shown_at = asyncio.get_running_loop().time() + self.lag if self.lag > 0 else 0.0
            self.log.append(Logged(self.revision, tuple(group.items()), shown_at))
            if last and reply is not None:
                self.log[-1].asks(reply, self._sessions)
            if self._observer is not None:
                self._observer.committed(self.name, group, self._shown(self.revision))

        revision = self.revision  # handlers that are woken may write as well
        if self.lag > 0:
            asyncio.get_running_loop().call_later(self.lag, self._show, self.log[-len(groups) :])
        else:
            self._wake()
        return revision

    def new_history(self, values: Mapping[str, bytes] | None = None, revision: int = 0) -> None:
        """The store is emptied, or replaced by an older backup: it holds `values` at
        `revision`. All sessions break."""
        self._histories += 1
        self.revision = revision
        self.state = {key: (raw, self._shown(revision)) for key, raw in (values or {}).items()}
        self.log.clear()
        self._compacted = 0
        if self._observer is not None:
            self.observe(self._observer)
        self.disconnect()

    def compact(self) -> None:
        """Forget how it came to the present state: nobody can resume after an older position."""
        self._compacted = len(self.log)

    def progress(self) -> None:
        """Let the sessions say how far they are, though there may be nothing new."""
        for session in list(self._sessions):
            session.progress()

    def resync(self, reply: Callable[[Result], None] | None = None) -> None:
        """Let the sessions hand over everything again, in its place of the
        order, as a push source may."""
        for session in list(self._sessions):
            session.resync(reply)
            reply = None

    # -- the faults --------------------------------------------------------------------------------

    def disconnect(self, error: BaseException | None = None, *, after: int = 0) -> None:
        """Break all sessions with `error` (a `Disconnected`), each after `after` more frames; what
        it had not handed over is lost with it. With `after`, the next session where none is open.
        """
        error = error or Disconnected(f"{self.name}: connection reset")
        if after and not self._sessions:
            self._cut_next = (after, error)
        for session in list(self._sessions):
            session.cut(after, error)

    def fail_open(self, *errors: Exception) -> None:
        """Answer the next attempts to open a session with these errors."""
        for error in errors:
            self.fail("open", error)

    def fail(self, call: Call, error: BaseException) -> None:
        """Let the next call of this kind raise `error`, which need not be
        one that a source may raise."""
        self._raising.append((call, error))

    def down(self, error: Exception | None = None) -> None:
        """Not reachable at all, until `heal`: every session breaks, every
        attempt and every write fails."""
        self._down = error or Disconnected(f"{self.name}: connection refused")
        self.disconnect(self._down)

    def hang(self) -> None:
        """Half-open: nothing breaks, nothing comes, and no ping or write is
        answered, until `heal`."""
        self._hanging = self._hanging or asyncio.Event()

    def hang_open(self) -> None:
        """Attempts to open a session are not answered, until `heal`."""
        self._hanging_open = self._hanging_open or asyncio.Event()

    def lose_acknowledgement(self) -> None:
        """The next write is done, but the connection dies before it is acknowledged."""
        self._lost_acknowledgements += 1

    def lose_verdicts(self) -> None:
        """The connection that verdicts would come over dies: the writes stand, and
        nobody hears what became of them."""
        for verdict in list(self._verdicts):
            if not verdict.done():
                verdict.set_exception(
                    OutcomeUnknown(f"{self.name}: lost before the watches reported")
                )
                verdict.exception()  # the caller may no longer wait for it

    def heal(self) -> None:
        """End all faults. Sessions that are broken stay broken; the next ones work."""
        self._down = self._cut_next = None
        self._raising.clear()
        self._lost_acknowledgements = 0
        for waiting in (self._hanging, self._hanging_open):
            if waiting is not None:
                waiting.set()
        self._hanging = self._hanging_open = None
        for session in list(self._sessions):
            session.wake()

    # -- what the sessions need --------------------------------------------------------------------

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    @property
    def hanging(self) -> asyncio.Event | None:
        """What a session waits for while the source hangs."""
        return self._hanging

    async def answer(self) -> None:
        """Answer a request: now, never, or with an error."""
        while (hanging := self._hanging) is not None:
            await hanging.wait()
            if self._hanging is not None and not self._users:
                # G12: nothing of the request was done
                raise WatchClosed(f"{self.name}: closed before it answered")
        if self._down is not None:
            raise self._down

    def stumble(self, call: Call) -> None:
        """Raise what this call was told to."""
        for failing in self._raising:
            if failing[0] == call:
                self._raising.remove(failing)
                raise failing[1]

    async def pause(self, seconds: float) -> None:
        """Wait on the clock of the loop."""
        if seconds > 0:
            await asyncio.sleep(seconds)

    def shown(self) -> int:
        """How much of the log a session shows by itself."""
        log, shown = self.log, len(self.log)
        if self.lag > 0:
            now = asyncio.get_running_loop().time()
            while shown and log[shown - 1].at > now:
                shown -= 1
        return shown

    def left(self, session: Follower) -> None:
        """A session has ended."""
        if session in self._sessions:
            self._sessions.remove(session)
            for logged in self.log:
                if logged.replies:
                    logged.left(session)

    def under(self, scopes: Scopes) -> list[Item]:
        """What the store holds under these scopes now, in key order."""
        return [(key, *self.state[key]) for key in sorted(self.state) if key in scopes]

    def _show(self, late: Sequence[Logged]) -> None:
        for logged in late:
            logged.at = 0.0  # a timer may be early by the resolution of the clock
        self._wake()

    def _wake(self) -> None:
        for session in list(self._sessions):
            session.wake()

    def _shown(self, revision: int) -> int:
        return revision if self.capabilities.revisions else 0

    def _expire(self, key: str, record: tuple[bytes, int]) -> None:
        if self.state.get(key) is record:
            self.write({key: None})
