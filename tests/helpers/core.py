"""The core of the engine without I/O: frames and reports go in,
what it asks of the engine comes out.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from datasync.capabilities import Capabilities
from datasync.errors import DecodeError, Disconnected
from datasync.events import ChangeEvent, Event, ResyncEvent
from datasync.frames import Commit, Progress, SnapshotBegin, SnapshotChunk, SnapshotEnd
from datasync.options import Backoff, Options
from datasync.outcome import Reply, Result
from datasync.syncbase.core import Core, Layer
from datasync.syncbase.subscriber import Spec, Subscriber
from datasync.testing.faults.store import EXACT

__all__ = ["OPTIONS", "Bench", "Verdicts", "changes", "values"]

OPTIONS = Options(retries=3, retry=Backoff(initial=1.0, factor=2.0, jitter=0.0))


class Reader:
    """What stands where a runner does: it only says whether it is one of a stream."""

    def __init__(self, *, is_stream: bool) -> None:
        self.is_stream = is_stream


class Verdicts:
    """Hears what became of commits, in order."""

    def __init__(self) -> None:
        self.heard: list[Result] = []

    def __call__(self, result: Result) -> None:
        self.heard.append(result)

    @property
    def words(self) -> list[str]:
        return [result.verdict.value for result in self.heard]


class Bench:
    """A core with its layers, a clock that stands still,
    and watches whose handlers are the test.
    """

    def __init__(
        self,
        *layers: str,
        options: Options = OPTIONS,
        capabilities: Capabilities = EXACT,
        optional: Sequence[str] = (),
    ) -> None:
        self._options = options
        self.now = 1_000.0
        made = [
            Layer(index, name, capabilities, optional=name in optional)
            for index, name in enumerate(layers or ("store",))
        ]
        self.core = Core(
            made,
            options,
            lambda: self.now,
            lambda: self.now,
            random.Random(1),
            threading.RLock(),
        )
        self.delivery = self.core.delivery
        self.layer = made[0]
        self.revision = 0
        self._delivered: list[Event[Any]] = []

    # -- watches

    def watch(
        self,
        name: str = "watch",
        scopes: Sequence[str] = ("a/",),
        *,
        after: Sequence[Subscriber] = (),
        backlog: int = 100,
        stream: bool = False,
        idle: bool = True,
        aside: bool = False,
    ) -> Subscriber:
        """Register one; `idle`: its handler asks at once for what there is."""
        sub = Subscriber(
            Spec(
                name,
                _decode,
                backlog,
                ack_timeout=2.0,
                resync_timeout=30.0,
                retries=self._options.retries,
                retry=self._options.retry,
                aside=aside,
            ),
            scopes,
            after=after,
        )
        sub.runner = Reader(is_stream=stream)
        self.core.add(sub)
        if idle:
            self.delivery.ask(sub)
        return sub

    def event(self, sub: Subscriber) -> Event[Any] | None:
        """What was delivered to the watch and is open; the handler now has it."""
        self._delivered += self.core.effects
        self.core.effects.clear()
        event = next((event for event in self._delivered if sub.has(event)), None)
        if event is not None and sub.deadline is None:
            self.delivery.delivered(sub, event)
        return event

    def resync(self, sub: Subscriber) -> ResyncEvent[Any]:
        """The RESYNC that was delivered to the watch."""
        event = self.event(sub)
        assert isinstance(event, ResyncEvent), f"{sub.name} was given {event!r}"
        return event

    def change(self, sub: Subscriber) -> ChangeEvent[Any]:
        """The CHANGE that was delivered to the watch."""
        event = self.event(sub)
        assert isinstance(event, ChangeEvent), f"{sub.name} was given {event!r}"
        return event

    def report(
        self, sub: Subscriber, error: BaseException | None = None, *, returns: bool = True
    ) -> None:
        """The handler reports on what it has, and returns: then it is idle again."""
        event = self.event(sub)
        assert event is not None, f"{sub.name} has nothing to report on"
        if returns:
            self.delivery.finished(event, error)
        else:
            self.delivery.report(event, error)

    def accept_all(self) -> None:
        """Accept whatever is delivered, until nothing is."""
        while busy := [sub for sub in self.core.subscribers if self.event(sub) is not None]:
            for sub in busy:
                self.report(sub)

    def passes(self, seconds: float) -> None:
        """Time passes, and what is due then is seen to."""
        self.now += seconds
        self.delivery.tick()

    # -- the source

    def open(self, layer: Layer | None = None) -> tuple[list[str], Any, list[str]]:
        """Open a session, as the feed does; what it is asked for."""
        layer = layer or self.layer
        wanted = self.core.opening(layer)
        self.core.opened(layer, resumed=wanted[1] is not None)
        return wanted

    def snapshot(
        self,
        items: Mapping[str, bytes],
        *,
        layer: Layer | None = None,
        scopes: Sequence[str] = ("",),
        history: str = "h",
        revision: int | None = None,
        reply: Reply | None = None,
        same_history: bool = False,
    ) -> None:
        """A snapshot, whole."""
        layer = layer or self.layer
        self.revision = self.revision + 1 if revision is None else revision
        self.core.frame(layer, SnapshotBegin(scopes))
        self.core.frame(
            layer, SnapshotChunk([(key, raw, self.revision) for key, raw in items.items()])
        )
        end = SnapshotEnd(self.revision, self.revision, history, reply, same_history)
        self.core.frame(layer, end)
        self.core.caught_up(layer, layer.registered)

    def commit(
        self,
        changes: Mapping[str, bytes | None],
        *,
        layer: Layer | None = None,
        reply: Reply | None = None,
    ) -> int:
        """A commit; its revision."""
        self.revision += 1
        self.core.frame(
            layer or self.layer, Commit(self.revision, self.revision, list(changes.items()), reply)
        )
        return self.revision

    def progress(self) -> None:
        """A bookmark."""
        self.revision += 1
        self.core.frame(self.layer, Progress(self.revision, self.revision))

    def start(self, items: Mapping[str, bytes] | None = None) -> None:
        """Open the session and bring what there is; all watches accept it."""
        self.open()
        self.snapshot(items or {})
        self.accept_all()

    def lose(self, error: Exception | None = None, layer: Layer | None = None) -> None:
        """The session is gone."""
        self.core.lost(layer or self.layer, error or Disconnected("gone"))


def _decode(key: str, raw: bytes) -> bytes:
    if raw == b"!":
        raise DecodeError(key, "is broken")
    return raw


def changes(event: Event[Any]) -> dict[str, tuple[bytes | None, bytes | None]]:
    """By key: the value before, and the new one."""
    return {
        change.key: (None if change.prev is None else change.prev.raw, change.raw)
        for change in event.changes
    }


def values(event: ResyncEvent[Any]) -> dict[str, bytes]:
    """All values of a RESYNC."""
    return {pair.key: pair.raw for pairs in event.values.values() for pair in pairs}
