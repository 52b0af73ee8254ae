"""The side of a writer: it leaves a ticket with what it writes, and waits for the answers of
agents.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from datasync.errors import (
    DataSyncError,
    NotApplied,
    NotReady,
    UnsupportedOption,
    UsageError,
)
from datasync.events import ChangeEvent, Event
from datasync.keyspace import KeySpace
from datasync.outcome import KeyOutcome, Verdict
from datasync.report import Reports
from datasync.reports.answering import KEPT
from datasync.reports.clocks import Clocks
from datasync.reports.form import (
    Answer,
    Place,
    Progress,
    Ticket,
    decode_answer,
    decode_progress,
    digest_of,
    encode,
    rank_of,
)
from datasync.reports.portions import write_in_portions
from datasync.source import Committed, Delete, Operation, Put, Source
from datasync.status import Durations
from datasync.syncbase.engine import Engine
from datasync.tasks import end_tasks
from datasync.texts import logger, printable

__all__ = ["Asking"]

log = logger("datasync.reports")

_ACCEPTED = Verdict.ACCEPTED
_SOON = 0.5
"""Seconds in which most are answered; other tickets are given a TTL then, for which some stores are
asked twice."""
_TIDY = 0.5
"""Seconds after which what was answered is deleted, many together."""
_LAST = 1.0
"""Seconds that closing waits for the last of that."""


class _Question:
    """One write whose agents have not all answered."""

    def __init__(
        self, agents: Iterable[str], absent: Mapping[str, str], asked: str | Sequence[str]
    ) -> None:
        self.agents = list(agents)
        self.absent = absent
        self.any, self.named = asked == "any", not isinstance(asked, str)
        self.ticket = b""
        """What lies there."""
        self.answers: dict[str, Answer] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._look()

    def take(self, answer: Answer) -> None:
        """An agent has answered."""
        self.answers.setdefault(answer.agent, answer)
        self._look()

    def _look(self) -> None:
        answered = all(agent in self.answers for agent in self.agents)
        enough = self.any and any(map(_accepted, self.answers.values()))
        if (answered or enough) and not self.done.done():
            self.done.set_result(None)

    def outcomes(self, keys: Iterable[str], prefix: str) -> dict[str, KeyOutcome]:
        """The worst by key, but for those that were accepted; where any agent is enough, that of
        the one that came furthest.

        prefix: where the agents report.
        """
        by_agent = {
            agent: {key: self._said(agent, key) for key in keys}
            for agent in (*self.agents, *self.absent)
        }
        if not by_agent:
            nobody = KeyOutcome(Verdict.ABSENT, f"no agent reports below {prefix!r}")
            return dict.fromkeys(keys, nobody)
        if self.any:
            best = min(by_agent.values(), key=lambda said: max(map(_rank, said.values())))
            by_agent = {"": best}
        worst = {key: self._worst([said[key] for said in by_agent.values()]) for key in keys}
        return {key: said for key, said in worst.items() if said.verdict is not Verdict.ACCEPTED}

    def _worst(self, said: list[KeyOutcome]) -> KeyOutcome:
        if not self.named:  # who does not watch a key has nothing to say of it, if others have
            said = [one for one in said if one.verdict is not Verdict.UNWATCHED] or said
        return max(said, key=_rank)

    def _said(self, agent: str, key: str) -> KeyOutcome:
        if agent in self.absent:
            return KeyOutcome(Verdict.ABSENT, self.absent[agent], agent)
        answer = self.answers.get(agent)
        if answer is None or key not in answer.keys:
            return KeyOutcome(Verdict.OVERDUE, "no answer in time", agent)
        said = answer.keys[key]
        return KeyOutcome(Verdict(said.verdict), printable(said.reason), agent)


class Asking:
    """Asks agents that report in one place, for one DataSync: by one watch, which is registered
    with the first question.

    engine, source: of the store that they report in.
    written: the source that takes the writes, which may be the same.
    register: makes that watch, by a name, of these prefixes with this handler.
    """

    def __init__(
        self,
        engine: Engine,
        source: Source,
        written: Source,
        keys: KeySpace,
        place: Place,
        register: Callable[[str, Sequence[str], Callable[[Event[bytes]], Any]], object],
    ) -> None:
        self._engine = engine
        self._source = source
        self._target = written
        self._root = keys.root
        self._place = place
        self._writer = engine.new_identity()
        self._numbers = itertools.count(1)
        self._agents: dict[str, Progress] = {}
        self._clocks = Clocks(engine.wall)
        self._questions: dict[str, _Question] = {}
        self._known = asyncio.Event()
        self._answered: list[tuple[str, list[str]]] = []
        self._tidying: asyncio.Task[None] | None = None
        self._closed = False

        self.verdicts: Counter[Verdict] = Counter()
        """What was heard of the writes, by verdict."""
        self.durations = Durations()
        """How long that took, from the write on."""
        scopes = [place.answers(self._writer), place.all_progress]
        register(f"answers at {place.prefix}", scopes, self._handle)

    @property
    def prefix(self) -> str:
        """Below which the agents report."""
        return self._place.prefix

    async def commit(self, operations: Sequence[Operation], reports: Reports) -> Committed:
        """Write, and wait for what agents make of it. Raises `NotApplied`, `NotReady`,
        `UsageError`, and what a write raises.
        """
        until = self._engine.now() + reports.timeout
        written = self._written(operations)
        await self._know_agents(until, reports)
        asked, absent = self._whom(reports)
        question = _Question(asked, absent, reports.agents)
        number = f"{self._writer}/{next(self._numbers)}"
        deadline = self._engine.wall() + reports.timeout
        ticket = Ticket(written, reports.timeout, deadline, agents=asked)

        self._questions[number] = question
        began = self._engine.now()
        try:
            if asked:
                committed, trouble = await self._leave(operations, number, ticket, question)
            else:
                committed, trouble = await self._target.commit(operations), None
            if trouble is None:
                with self._engine.awaiting(question.done):
                    await self._answered_by(until, number, question)
        finally:
            del self._questions[number]
            if asked:
                self._tidy_later(number, asked)

        outcomes = question.outcomes(written, self._place.prefix)
        if trouble is not None:
            outcomes = {key: KeyOutcome(Verdict.OVERDUE, trouble) for key in written}
        worst = max((said.verdict for said in outcomes.values()), key=rank_of, default=_ACCEPTED)
        self.verdicts[worst] += 1
        self.durations.add(self._engine.now() - began)
        if outcomes:
            named = {key.removeprefix(self._root): said for key, said in outcomes.items()}
            raise NotApplied(worst, named, committed.revision)
        return committed

    async def aclose(self) -> None:
        """Delete what was answered, where the store can be reached."""
        self._closed = True
        tidying, self._tidying = self._tidying, None
        if tidying is None:
            return
        await end_tasks(tidying)
        del tidying  # G9: it leads back here by the traceback of its end
        with contextlib.suppress(Exception):  # agents sweep it, or its time ends
            async with asyncio.timeout(_LAST):
                await self._tidy()

    # -- within ------------------------------------------------------------------------------------

    async def _handle(self, event: Event[bytes]) -> None:
        if isinstance(event, ChangeEvent):
            for change in event.changes:
                if change.raw is not None:
                    self._take(change.key, change.raw, just_now=True)
                else:
                    agent = change.key.removeprefix(self._place.all_progress)
                    self._agents.pop(agent, None)
                    self._clocks.gone(agent)
        else:
            self._agents.clear()
            for values in event.values.values():
                for kv in values:
                    self._take(kv.key, kv.raw, just_now=False)
            self._clocks.stay(self._agents)
        self._known.set()

    def _take(self, key: str, raw: bytes, *, just_now: bool) -> None:
        agent = key.removeprefix(self._place.all_progress)
        try:
            if agent == key:
                self._take_answer(key, raw)
                return
            progress = self._agents[agent] = decode_progress(raw)
        except ValueError as error:
            log.warning("%s is not a report that can be read here: %s", key, error)
        else:
            if just_now:
                self._clocks.reported(agent, progress.time)

    def _take_answer(self, key: str, raw: bytes) -> None:
        mine = key.removeprefix(self._place.answers(self._writer))
        question = self._questions.get(f"{self._writer}/{mine.partition('/')[0]}")
        if question is not None:
            question.take(decode_answer(raw))

    async def _know_agents(self, until: float, reports: Reports) -> None:
        """Wait until it is known who reports there."""
        if self._known.is_set():
            return
        try:
            async with asyncio.timeout_at(until):
                await self._known.wait()
        except TimeoutError:
            store = self._engine.status().sources[0]
            raise NotReady(
                f"nothing was written: within {reports.timeout:g} s it was not known which agents "
                f"report at {self._place.prefix!r} in {store.name}, which is {store.state}"
                + (f": {store.error}" if store.error else "")
            ) from None

    def _whom(self, reports: Reports) -> tuple[list[str], dict[str, str]]:
        """Who is asked, and of the others that were named why they are not there."""
        now = self._engine.wall()
        trouble = {
            name: _absence(progress, now - self._clocks.behind(name))
            for name, progress in self._agents.items()
        }
        alive = [name for name, why in trouble.items() if not why]
        if isinstance(reports.agents, str):
            return sorted(alive), {}
        names = list(dict.fromkeys(reports.agents))
        absent = {
            name: trouble.get(name, f"no such agent reports below {self._place.prefix!r}")
            for name in names
        }
        return [name for name in names if not absent[name]], {
            name: why for name, why in absent.items() if why
        }

    def _written(self, operations: Sequence[Operation]) -> dict[str, str | None]:
        """The keys, whole, with the digests of what they will hold."""
        written: dict[str, str | None] = {}
        for operation in operations:
            if isinstance(operation, Put):
                written[self._root + operation.key] = digest_of(operation.raw)
            elif isinstance(operation, Delete):
                if operation.prefix:
                    raise UsageError(
                        f"agents are asked by key; delete the keys under {operation.key!r} by name "
                        "to hear of them, or leave confirm=Reports(...) out"
                    )
                written[self._root + operation.key] = None
        return written

    async def _answered_by(self, until: float, number: str, question: _Question) -> None:
        """Wait for the answers, for so long at most."""
        left = until - self._engine.now()
        await asyncio.wait((question.done,), timeout=min(left, _SOON))
        if not question.done.done() and left > _SOON:
            if self._source.capabilities.ttl:
                put = Put(self._place.ticket(number), question.ticket, left - _SOON + KEPT)
                with contextlib.suppress(DataSyncError, TimeoutError):  # else agents sweep it
                    async with asyncio.timeout_at(until):
                        await self._source.commit([put])
            await asyncio.wait((question.done,), timeout=until - self._engine.now())
        if question.done.done():
            question.done.result()

    async def _leave(
        self, operations: Sequence[Operation], number: str, ticket: Ticket, question: _Question
    ) -> tuple[Committed, str | None]:
        """Write, and leave the ticket: together where one revision tells of both, else after it.
        What went wrong with the ticket.
        """
        can, key = self._target.capabilities, self._place.ticket(number)
        most = can.max_operations or len(operations) + 1
        beside = self._target is self._source
        in_order = can.order == "total" or not can.revisions
        if beside and can.transactions and in_order and len(operations) < most:
            question.ticket = encode(ticket)
            put = Put(key, question.ticket)
            # a cluster may have no transaction of these keys; then nothing was done
            with contextlib.suppress(UnsupportedOption):
                return await self._source.commit([*operations, put]), None

        committed = await self._target.commit(operations)
        if can.revisions and not (beside and in_order):
            of = committed.by_key or {}
            revisions = {
                whole: of.get(whole.removeprefix(self._root), committed.revision or 0)
                for whole in ticket.keys
            }
            ticket = msgspec.structs.replace(ticket, revisions=revisions)
        question.ticket = encode(ticket)
        try:
            await self._source.commit([Put(key, question.ticket)])
        except DataSyncError as error:  # G10: the write stands
            return committed, f"nobody could be asked: {error}"
        return committed, None

    def _tidy_later(self, number: str, agents: list[str]) -> None:
        self._answered.append((number, agents))
        # G12: questions that closing ends are left to be swept
        if not self._closed and (self._tidying is None or self._tidying.done()):
            self._tidying = asyncio.get_running_loop().create_task(
                self._tidy_soon(), name="datasync tickets"
            )

    async def _tidy_soon(self) -> None:
        while self._answered:
            await asyncio.sleep(_TIDY)
            try:
                await self._tidy()
            except DataSyncError as error:
                log.info("%s: tickets are left to be swept: %s", self._source.name, error)
                return

    async def _tidy(self) -> None:
        steps: list[Operation] = []
        for number, agents in self._answered:
            steps.append(Delete(self._place.ticket(number)))
            steps += [Delete(self._place.answers(number) + agent) for agent in agents]
        self._answered = []
        await write_in_portions(self._source, steps)


def _rank(said: KeyOutcome) -> int:
    return rank_of(said.verdict)


def _accepted(answer: Answer) -> bool:
    return all(said.verdict == Verdict.ACCEPTED.value for said in answer.keys.values())


def _absence(progress: Progress, now: float) -> str:
    """Why an agent is not there; empty where it is. now: by its own clock."""
    if progress.stopped:
        return "it was closed"
    late = now - progress.time
    return f"no sign of life for {late:.0f} s" if late > progress.lease else ""
