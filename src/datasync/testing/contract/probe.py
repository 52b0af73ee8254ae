"""A handler that records what it is given and holds every event against the guarantees."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasync.errors import Failed, Outcomes, Pending, Refused
from datasync.events import ChangeEvent, Event, Op, ResyncEvent
from datasync.outcome import reasons_of
from datasync.testing.contract.waiting import eventually

__all__ = ["Answer", "Probe"]

Answer = BaseException | None
"""What a handler does with an event: accept it (None) or raise."""


class Probe:
    """Register it as a handler: `sync.watcher("a/", name="a")(probe)`.

    It keeps a state of its own, made of nothing but the events it accepted. Each event is checked
    against it: RESYNC first, RESYNC complete and sorted, `prev` equal to the state, nothing
    delivered that changes nothing, one event at a time, never back in time. What does not hold is
    in `faults`; `check()` raises it.

    answers: what to do with the next events, one after another; afterwards all are accepted.
    ordered: whether the revisions of all its keys count in one order.

    While `gate` is cleared, it sits on the event that it was given.
    """

    def __init__(
        self,
        *answers: Answer,
        name: str = "probe",
        prefixes: Sequence[str] = ("",),
        ordered: bool = True,
    ) -> None:
        self.name = name
        self.ordered = ordered
        self.answers: deque[Answer] = deque(answers)
        self.prefixes = tuple(prefixes)
        self.gate = asyncio.Event()
        self.gate.set()
        self.events: list[Event[Any]] = []
        self.state: dict[str, bytes] = {}
        self.dirty: set[str] = set()
        self.seen: list[tuple[str, bytes | None]] = []
        """Every change that was accepted, in order: (key, raw value or None)."""
        self.faults: list[str] = []
        self.running = False
        self.resynced = False
        self._revision = 0

    def __repr__(self) -> str:
        return f"Probe({self.name!r}, {len(self.events)} events, {len(self.state)} keys)"

    @property
    def resyncs(self) -> list[ResyncEvent[Any]]:
        """All RESYNCs so far, each try for itself."""
        return [event for event in self.events if isinstance(event, ResyncEvent)]

    @property
    def changes(self) -> list[ChangeEvent[Any]]:
        """All ChangeEvents so far, each try for itself."""
        return [event for event in self.events if isinstance(event, ChangeEvent)]

    @property
    def commits(self) -> int:
        """How many transactions the events so far stand for."""
        return sum(event.commits for event in self.changes if event.attempt == 1)

    async def reaches(self, state: Mapping[str, bytes], timeout: float = 30.0) -> None:
        """Wait until it has accepted exactly `state`."""

        def there() -> bool:
            assert self.state == state
            return True

        await eventually(there, timeout, what=f"{self.name!r} has the state that was written")

    async def hears(self, events: int, timeout: float = 30.0) -> None:
        """Wait until it has been given so many events."""
        await eventually(
            lambda: len(self.events) >= events, timeout, what=f"{self.name!r} gets {events} events"
        )

    def check(self) -> None:
        """Raise AssertionError if any event broke a guarantee."""
        assert not self.faults, f"{self.name}: " + "; ".join(self.faults[:5])

    async def __call__(self, event: Event[Any]) -> None:
        if self.running:
            self._fault(event, "came while the handler was still at work on the one before")
        self.running = True
        try:
            self.events.append(event)
            self._inspect(event)
            await self.gate.wait()
            answer = self.answers.popleft() if self.answers else None
            self.answered(event, answer)
            if answer is not None:
                raise answer
        finally:
            self.running = False

    def answered(self, event: Event[Any], answer: Answer) -> None:
        """Bring the state up to date with how `event` was answered; for
        those who report by themselves."""
        touched = {change.key for change in event.changes}
        refused: set[str] = set()

        if isinstance(answer, Refused | Pending | Failed | Outcomes):
            refused = set(reasons_of(answer.by_key(touched)))
        elif answer is not None:
            self.dirty |= touched
            return

        left = refused | set(event.undecodable)

        if isinstance(event, ResyncEvent):
            self.resynced = True
            kept = {key: raw for key, raw in self.state.items() if key in left}
            self.state = {key: raw for key, raw in _pairs(event) if key not in left} | kept
            self.dirty = left
        else:
            for change in event.changes:
                if change.key in left:
                    continue
                self.seen.append((change.key, change.raw))
                if change.raw is None:
                    self.state.pop(change.key, None)
                else:
                    self.state[change.key] = change.raw
            self.dirty = (self.dirty - touched) | left

    def _inspect(self, event: Event[Any]) -> None:
        if isinstance(event, ResyncEvent):
            self._inspect_values(event)
        else:
            if not self.resynced:
                self._fault(event, "came before a RESYNC was accepted (G1)")
            if not event.changes and not event.undecodable:
                self._fault(event, "has no change in it (G5)")
            if event.commits < 1:
                self._fault(event, "stands for no commit (G9)")
        if (
            self.ordered
            and event.revision < self._revision
            and "new history" not in getattr(event, "reason", "")
        ):
            self._fault(event, f"went back in time, from revision {self._revision} (G3)")
        self._revision = event.revision
        self._inspect_changes(event)

    def _inspect_values(self, event: ResyncEvent[Any]) -> None:
        if not event.reason:
            self._fault(event, "does not say why (G8)")
        for prefix, values in event.values.items():
            keys = [kv.key for kv in values]
            if keys != sorted(set(keys)):
                self._fault(event, f"{prefix!r} is not in key order")
            if len(values) != len(keys):
                self._fault(
                    event, f"{prefix!r} says it has {len(values)} values, but has {len(keys)}"
                )
            if strange := [key for key in keys if key != prefix and not key.startswith(prefix)]:
                self._fault(event, f"{strange[0]!r} does not lie under {prefix!r}")

    def _inspect_changes(self, event: Event[Any]) -> None:
        keys = [change.key for change in event.changes]
        if len(set(keys)) != len(keys):
            self._fault(event, "names a key twice")

        for change in event.changes:
            prev = None if change.prev is None else change.prev.raw
            if prev != self.state.get(change.key):
                self._fault(
                    event,
                    f"{change.key!r} has prev {prev!r}, accepted was "
                    f"{self.state.get(change.key)!r} (G5)",
                )

            if (change.raw is None) is not (change.op is Op.DELETE):
                self._fault(
                    event, f"{change.key!r} is a {change.op.name} with value {change.raw!r}"
                )

            if change.raw == prev and change.key not in self.dirty:
                self._fault(event, f"{change.key!r} does not change anything (G5)")

            if not any(
                change.key == prefix or change.key.startswith(prefix) for prefix in self.prefixes
            ):
                self._fault(event, f"{change.key!r} is not watched")

        if isinstance(event, ResyncEvent):
            now = dict(_pairs(event))
            missing = {
                key
                for key in now.keys() | self.state.keys()
                if now.get(key) != self.state.get(key) and key not in event.undecodable
            }.difference(keys)
            if missing:
                self._fault(event, f"differs in {min(missing)!r} without saying so in `changes`")

    def _fault(self, event: Event[Any], text: str) -> None:
        self.faults.append(f"event {len(self.events)}, {event!r}: {text}")


def _pairs(event: ResyncEvent[Any]) -> Iterable[tuple[str, bytes]]:
    for values in event.values.values():
        for kv in values:
            yield kv.key, kv.raw
