"""The side of the agent: it answers the tickets of writers, who want to know what became of what
they wrote, and sweeps those that nobody waits for any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from datasync.errors import DataSyncError
from datasync.events import ChangeEvent, Event, Record
from datasync.outcome import KeyOutcome, Verdict
from datasync.reports.destination import Destination
from datasync.reports.form import (
    Answer,
    KeyAnswer,
    Ticket,
    decode_ticket,
    digest_of,
    encode,
    rank_of,
)
from datasync.reports.portions import read_in_portions
from datasync.source import Delete, Operation, Put, Source
from datasync.status import Durations
from datasync.syncbase.engine import Engine
from datasync.syncbase.layer import Layer
from datasync.syncbase.standing import Standing
from datasync.texts import logger

__all__ = ["KEPT", "Answering"]

log = logger("datasync.reports")

KEPT = 60.0
"""Seconds that a ticket and its answers outlive the time of who waits."""
_SWEEP = 10.0
"""Seconds between two looks for tickets that are to be swept."""
_LOOK = 1.0
"""Seconds that a look at the store may take, while others wait for their answers."""


class _Ticket(msgspec.Struct, frozen=True):
    """One that is there.

    agents: those that may answer it; None for all.
    over: from when on it is to be swept, by the clock here: that of the writer may differ.
    """

    agents: list[str] | None
    over: float


class _Asked(msgspec.Struct):
    """A ticket that is not answered."""

    ticket: Ticket
    revision: int
    since: float
    until: float
    said: dict[str, KeyAnswer] = {}
    overtaken: set[str] = set()
    """Keys that have another value in the store itself."""
    looked: dict[str, Record | None] = {}
    """What was known here of the others when the store had just the value that is asked for."""

    @property
    def is_complete(self) -> bool:
        """Whether it is known what became of each key."""
        return len(self.said) == len(self.ticket.keys)


class Answering:
    """Knows all tickets that are there, and what is to be written about them.

    Nothing is remembered of how a value came: what a watch says of the value that stands there now
    is true however its agent learned of it, by the commit, a fold or a RESYNC after a restart.

    layer: what the engine knows of the source that takes the writes which it is asked about; None
        where that may be any of several.
    written: the sources that may take them.
    """

    def __init__(
        self,
        engine: Engine,
        standing: Standing,
        to: Destination,
        root: str,
        layer: Layer | None,
        written: Sequence[Source],
    ) -> None:
        self._engine = engine
        self._standing = standing
        self._place = to.place
        self._agent = to.agent
        self._source = to.source
        self._root = root
        self._layer = layer
        self._written = written
        self._elsewhere = to.elsewhere
        self._open: dict[str, _Asked] = {}
        self._tickets: dict[str, _Ticket] = {}
        self._answered: set[str] = set()
        self._left: set[str] = set()
        """Tickets that are gone, whose answers of ours may still be there, for good."""
        self._looks = False
        """Whether it is to be looked for such ones."""
        self._going: tuple[list[str], list[str]] = [], []
        """The tickets that are being swept, and those that are gone whose answers are."""
        self._news = asyncio.Event()

        self.resyncs = 0
        """How often all tickets were shown again: the store may have been lost before each."""
        self.verdicts: Counter[Verdict] = Counter()
        """Tickets that were answered, by the worst verdict."""
        self.durations = Durations()
        """How long that took, from when a ticket was seen."""

    @property
    def waiting(self) -> int:
        """Tickets that are not answered."""
        return len(self._open)

    async def handle(self, event: Event[bytes]) -> None:
        """What the watch of the tickets is given."""
        if not isinstance(event, ChangeEvent):
            self.resyncs += 1
            before, self._tickets = self._tickets, {}
            self._open.clear()
            for values in event.values.values():
                for kv in values:
                    number = self._number(kv.key)
                    if number in before:
                        self._tickets[number] = before[number]
                    self._take(kv.key, kv.raw, kv.revision, just_now=False)
            self._answered &= self._tickets.keys()
            self._looks = True
        else:
            for change in event.changes:
                if change.raw is None:
                    self._forget(self._number(change.key))
                else:
                    self._take(change.key, change.raw, change.revision, just_now=True)
        self._news.set()
        if self._elsewhere:  # so this engine was told of nothing, whose turn `something` waits for
            self._engine.drain()

    async def something(self) -> list[Operation]:
        """Wait until there is something to write, and return it; `written` is to be called then.
        Raises what reading raises.
        """
        while True:
            if self._looks:
                await self._look_for_left()
            await self._look_what_stands_there()
            swept, left = self._over(), sorted(self._left)
            steps = [*self._answers(), *self._swept(swept), *map(self._no_answer, left)]
            if steps:
                self._going = swept, left
                return steps
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience()):
                    await (self._engine.turn() if self._open else self._news.wait())

    def written(self) -> None:
        """What `something` returned last has been written."""
        now = self._engine.now()
        for number, asked in list(self._open.items()):
            if asked.is_complete:
                self._answered.add(number)
                del self._open[number]
                said = (Verdict(one.verdict) for one in asked.said.values())
                self.verdicts[max(said, key=rank_of)] += 1
                self.durations.add(now - asked.since)
        swept, left = self._going
        for number in swept:
            self._open.pop(number, None)
            self._tickets.pop(number, None)
            self._answered.discard(number)
        self._left.difference_update(left)

    # -- within ------------------------------------------------------------------------------------

    def _number(self, key: str) -> str:
        return key.removeprefix(self._place.all_tickets)

    def _take(self, key: str, raw: bytes, revision: int, *, just_now: bool) -> None:
        number, now = self._number(key), self._engine.now()
        try:
            ticket = decode_ticket(raw)
        except ValueError as error:
            log.warning("%s is not a ticket that can be read here: %s", key, error)
            return
        if number not in self._tickets:
            left = ticket.timeout
            if not just_now:  # nobody knows for how long it has been there
                left = max(0.0, min(left, ticket.deadline - self._engine.wall()))
            self._tickets[number] = _Ticket(ticket.agents, now + left + KEPT)
        asked = ticket.keys and (ticket.agents is None or self._agent in ticket.agents)
        known = number in self._open or number in self._answered  # it was given its TTL
        if asked and not known:
            self._open[number] = _Asked(ticket, revision, now, now + ticket.timeout)

    def _forget(self, number: str) -> None:
        """The ticket is gone. Who wrote it, or swept it, has deleted the answers that were there
        then: ours may have come after that. It has no TTL of its own, which would cost a lease
        for each answer where there are such, and a round trip before it.
        """
        asked = self._open.pop(number, None)
        self._tickets.pop(number, None)
        if number in self._answered or (asked and asked.is_complete):
            self._left.add(number)
        self._answered.discard(number)

    async def _look_for_left(self) -> None:
        """Likewise of an earlier life."""
        root = self._place.all_answers
        self._looks = False
        for key, _, _ in await read_in_portions(self._source, root, keys_only=True):
            number, _, agent = key.removeprefix(root).rpartition("/")
            if agent == self._agent and number not in self._tickets:
                self._left.add(number)

    async def _look_what_stands_there(self) -> None:
        """Whether what is asked for was overtaken, where it is not known that it has come: the
        ticket is no older than the write, so the store itself can tell.
        """
        for asked in () if self._in_order else list(self._open.values()):
            for whole, digest in asked.ticket.keys.items():
                key, come = self._asked_of(whole, asked)
                if key is None or come is False or whole in asked.overtaken:
                    continue
                said, known = self._standing.outcome(key, digest), self._engine.read(key)
                if said is None or said.verdict is not Verdict.SUPERSEDED:
                    continue
                if whole in asked.looked and asked.looked[whole] is known:
                    continue
                asked.looked[whole] = known
                # else nobody knows, until the time of who waits is over
                with contextlib.suppress(DataSyncError, TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        if not await self._stands(key, digest):
                            asked.overtaken.add(whole)

    async def _stands(self, key: str, digest: str | None) -> bool:
        """Whether any of the stores has that value."""
        for source in self._written:
            found = await source.get(key)
            if digest_of(None if found is None else found[0]) == digest:
                return True
        return False

    def _answers(self) -> Iterator[Operation]:
        now = self._engine.now()
        for number, asked in self._open.items():
            for key, digest in asked.ticket.keys.items():
                if key not in asked.said:
                    said = self._outcome(key, digest, asked, over=now >= asked.until)
                    if said is not None:
                        asked.said[key] = KeyAnswer(said.verdict.value, said.reason)
            if asked.is_complete:
                key = self._place.answers(number) + self._agent
                yield Put(key, encode(Answer(self._agent, asked.said)))

    def _outcome(
        self, whole: str, digest: str | None, asked: _Asked, *, over: bool
    ) -> KeyOutcome | None:
        key, come = self._asked_of(whole, asked)
        if key is None:
            return KeyOutcome(Verdict.UNWATCHED, "it lies outside of what the agent sees")
        said = self._standing.outcome(key, digest)
        if said is not None and said.verdict is not Verdict.UNWATCHED:
            if said.verdict is Verdict.SUPERSEDED:
                come = self._in_order or whole in asked.overtaken
            if come is False:
                said = None
        if said is None and over:
            return KeyOutcome(Verdict.OVERDUE, "not settled in time")
        return said

    @property
    def _in_order(self) -> bool:
        """Whether each ticket comes with the write that it asks for, or after it."""
        return self._layer is not None and self._layer.revisions and not self._elsewhere

    def _asked_of(self, whole: str, asked: _Asked) -> tuple[str | None, bool | None]:
        """The name that a key has here, None where it has none; and whether its write, at the
        revision that the ticket names or a later one, has been shown here (G3), None where nothing
        tells.
        """
        key, layer = whole.removeprefix(self._root), self._layer
        if not whole.startswith(self._root) or not key:
            return None, None
        if self._in_order:
            return key, True
        least = asked.ticket.revisions.get(whole, 0)
        if layer is None or not least:
            return key, None
        if layer.revisions:
            return key, layer.revision >= least
        record = self._engine.read(key)
        return key, None if record is None else record.revision >= least

    def _over(self) -> list[str]:
        """The tickets that nobody waits for any more."""
        now = self._engine.now()
        return [number for number, ticket in self._tickets.items() if ticket.over < now]

    def _swept(self, numbers: Iterable[str]) -> Iterator[Operation]:
        for number in numbers:
            yield Delete(self._place.ticket(number))
            for agent in self._tickets[number].agents or [self._agent]:
                yield Delete(self._place.answers(number) + agent)

    def _no_answer(self, number: str) -> Operation:
        return Delete(self._place.answers(number) + self._agent)

    def _patience(self) -> float:
        now = self._engine.now()
        return min((asked.until - now for asked in self._open.values()), default=_SWEEP)
