"""Recording a trace: of handlers and streams, of what a source hands over, and
of what publishers were told."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from datasync.errors import DecodeError, Failed, Outcomes, Pending, Refused, Said, outcomes_of
from datasync.events import ChangeEvent, Event, ResyncEvent
from datasync.outcome import KeyOutcome, Verdict, reasons_of
from datasync.report import Report, Reports
from datasync.reports.form import encode
from datasync.source import Item, Source
from datasync.status import WatchStatus
from datasync.testing.trace import records as t
from datasync.testing.trace.tap import TappedSource

__all__ = ["RecordedStream", "Recorder"]

Handler = Callable[[Any], Awaitable[None]]


class Recorder:
    """Writes down, in `trace`, what happens around one DataSync; hold it
    against the guarantees by `check`.

    Give the DataSync `recorder.source(source)`, register `recorder.wrap(handler, ...)` in place of
    each handler, and iterate `recorder.stream(watch, ...)` in place of each stream. Tell it what is
    written: by `committed`, or as the `observer` of a FaultySource. Keys of the source are noted
    without `root`, the prefix of the DataSync.
    """

    def __init__(self, *, root: str = "", clock: Callable[[], float] | None = None) -> None:
        self.trace: list[t.Record] = []
        self._root = root
        self._clock = clock
        self._events = 0
        self._sessions = 0

    # -- the source --------------------------------------------------------------------------------

    def source(self, source: Source) -> Source:
        """The same source, recorded: what it promises, and each frame of its sessions."""
        self._note(t.SourceDeclared, source=source.name, capabilities=source.capabilities)
        return TappedSource(source, self)

    def committed(
        self, source: str, changes: Mapping[str, bytes | None], revision: int = 0
    ) -> None:
        """Something was committed to the source: each key with its new bytes,
        or None where it was deleted."""
        below = [
            (key[len(self._root) :], raw)
            for key, raw in changes.items()
            if key.startswith(self._root)
        ]
        self._note(t.Committed, source=source, changes=below, revision=revision)

    def history_started(
        self, source: str, history: str, revision: int, items: Iterable[Item]
    ) -> None:
        """The source holds this much at the start, or is about to be emptied or restored."""
        below = [
            (key[len(self._root) :], raw, at)
            for key, raw, at in items
            if key.startswith(self._root)
        ]
        self._note(t.HistoryStarted, source=source, history=history, revision=revision, items=below)

    def compacted(self, source: str) -> None:
        """The source forgets how it came to its present state."""
        self._note(t.Compacted, source=source)

    def stalled(self, since: float) -> None:
        """The loop stood still from that time of the clock until now."""
        self._note(t.Stalled, since=since)

    def stored(self, source: str, values: Mapping[str, bytes], revision: int = 0) -> None:
        """What the store holds at the end."""
        below = {
            key[len(self._root) :]: raw for key, raw in values.items() if key.startswith(self._root)
        }
        self._note(t.Stored, source=source, values=below, revision=revision)

    def answered(
        self,
        source: str,
        keys: Iterable[str],
        began: int,
        verdict: str,
        revision: int | None,
        outcomes: Mapping[str, KeyOutcome] = {},
    ) -> None:
        """A publisher heard a verdict (the value of a `Verdict`), and outcomes by key, on the
        write it began when `now()` was `began`."""
        self._note(
            t.Answered,
            source=source,
            keys=list(keys),
            began=began,
            verdict=verdict,
            revision=revision or 0,
            reasons=reasons_of(outcomes),
            opened=_others(outcomes),
        )

    def offset(self, source: str, revision: int) -> None:
        """A consumer group stored its offset: everything up to `revision` is done."""
        self._note(t.OffsetStored, source=source, revision=revision)

    def viewed(
        self, scope: str, values: Mapping[str, bytes], source: str = "", revision: int = 0
    ) -> None:
        """A view of `scope` was read, having waited for `revision` of the source."""
        self._note(t.Viewed, scope=scope, values=dict(values), source=source, revision=revision)

    # -- agents that report ------------------------------------------------------------------------

    def agent(
        self, source: str, agent: str, scopes: Sequence[str], place: str, store: str = ""
    ) -> None:
        """There is an agent that watches these scopes of the source and reports below `place`, in
        it or in the source `store`."""
        self._note(
            t.AgentDeclared,
            source=source,
            agent=agent,
            scopes=list(scopes),
            place=place,
            store=store,
        )

    def agent_started(
        self, agent: str, life: str, instance: str, since: float, ahead: float = 0.0
    ) -> None:
        """A life of the agent has begun at that time of the clock, and reports from now on."""
        self._note(
            t.AgentStarted, agent=agent, life=life, instance=instance, since=since, ahead=ahead
        )

    def agent_ended(self, agent: str, life: str = "") -> None:
        """That life is over, or each that it has."""
        self._note(t.AgentEnded, agent=agent, life=life)

    def agent_said(
        self,
        agent: str,
        life: str,
        values: Mapping[str, bytes | None],
        outcomes: Mapping[str, Said] = {},
        *,
        whole: bool = False,
        failed: str = "",
    ) -> None:
        """The watch of the agent is about to say what became of what it was shown."""
        self._note(
            t.AgentSaid,
            agent=agent,
            life=life,
            values=values,
            said=_by_key(outcomes),
            whole=whole,
            failed=failed,
        )

    def agents_heard(
        self,
        values: Mapping[str, bytes | None],
        reports: Reports,
        since: float,
        outcomes: Mapping[str, KeyOutcome] = {},
        *,
        follows: float = 0.0,
        ahead: float = 0.0,
        calm: bool = False,
    ) -> None:
        """A writer that asked agents at that time of the clock heard what became of its write."""
        said = {key: (one.verdict.value, one.reason, one.agent) for key, one in outcomes.items()}
        self._note(
            t.AgentsHeard,
            values=values,
            agents=reports.agents,
            since=since,
            timeout=reports.timeout,
            outcomes=said,
            follows=follows,
            ahead=ahead,
            calm=calm,
        )

    def report_read(self, reader: str, report: Report) -> None:
        """A reader was given this report."""
        self._note(
            t.ReportRead,
            reader=reader,
            agent=report.agent,
            instance=report.instance,
            time=report.time,
            records={key: encode(told) for key, told in report.open.items()},
        )

    # -- the end -----------------------------------------------------------------------------------

    def quiet(self) -> None:
        """Faults have ended, and everything has had the time to settle."""
        self._note(t.Quiet)

    def now(self) -> int:
        """Where the trace stands."""
        return len(self.trace)

    # -- watches -----------------------------------------------------------------------------------

    def wrap(
        self,
        handler: Handler,
        *scopes: str,
        name: str | None = None,
        after: Sequence[str] = (),
        ack_timeout: float = 2.0,
        resync_timeout: float = 30.0,
    ) -> Handler:
        """The same async handler, recorded; register it at once, with the same
        prefixes, keys, name and time-outs."""
        watch = name or str(getattr(handler, "__name__", "watch"))
        self.registered(
            watch, scopes, after=after, ack_timeout=ack_timeout, resync_timeout=resync_timeout
        )

        @functools.wraps(handler)
        async def recorded(event: Event[Any]) -> None:
            number = self.delivered(watch, event)
            try:
                await handler(event)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                self.reported(watch, number, error, event)
                self.asked(watch)
                raise
            if not event._deferred:
                self.reported(watch, number, None, event)
            self.asked(watch)

        return recorded

    def stream(
        self,
        watch: Any,
        *scopes: str,
        after: Sequence[str] = (),
        ack_timeout: float = 2.0,
        resync_timeout: float = 30.0,
    ) -> RecordedStream:
        """The stream of a watch, recorded; it may be iterated several
        times, as the watch itself."""
        self.registered(
            watch.name,
            scopes,
            after=after,
            ack_timeout=ack_timeout,
            resync_timeout=resync_timeout,
            stream=True,
        )
        return RecordedStream(self, watch)

    def registered(
        self,
        watch: str,
        scopes: Sequence[str],
        *,
        after: Sequence[str] = (),
        ack_timeout: float = 2.0,
        resync_timeout: float = 30.0,
        stream: bool = False,
    ) -> None:
        """A watch is registered; `wrap` and `stream` note it by themselves."""
        self._note(
            t.Registered,
            watch=watch,
            scopes=list(scopes),
            after=list(after),
            ack_timeout=ack_timeout,
            resync_timeout=resync_timeout,
            stream=stream,
        )

    def scoped(self, watch: str, scopes: Sequence[str]) -> None:
        """The watch is about to be widened or narrowed to these scopes."""
        self._note(t.Scoped, watch=watch, scopes=list(scopes))

    def closed(self, watch: str) -> None:
        """The watch is about to be closed."""
        self._note(t.Closed, watch=watch)

    def requested(self, watch: str = "") -> None:
        """The application is about to ask for a RESYNC."""
        self._note(t.Requested, watch=watch)

    def asked(self, watch: str) -> None:
        """The handler is free for the next event, or somebody waits in the stream."""
        self._note(t.Asked, watch=watch)

    def delivered(self, watch: str, event: Event[Any]) -> int:
        """An event is given to the application; from now on `event.done` is noted too.
        Returns the event's number."""
        self._events += 1
        number = self._events
        assert isinstance(event, ChangeEvent | ResyncEvent)
        steps = [
            t.Step(
                change.key,
                None if change.prev is None else change.prev.raw,
                change.raw,
                change.revision,
                change.source,
            )
            for change in event.changes
        ]
        note = functools.partial(
            self._note,
            t.Delivered,
            watch=watch,
            event=number,
            changes=steps,
            revision=event.revision,
            source=event.source,
            attempt=event.attempt,
            undecodable=sorted(event.undecodable),
        )
        if isinstance(event, ResyncEvent):
            values = {
                scope: [(kv.key, kv.raw, kv.revision, kv.source) for kv in found]
                for scope, found in event.values.items()
            }
            note(values=values, reason=event.reason)
        else:
            note(commits=event.commits)
        event._report = _RecordedReport(self, watch, number, event._report)
        return number

    def read(self, watch: str, key: str, raw: bytes, value: bytes) -> None:
        """A handler read the decoded value of `raw` in its event; `value`
        is what it got, encoded."""
        self._note(t.Read, watch=watch, key=key, raw=raw, value=value)

    def reported(
        self, watch: str, number: int, error: BaseException | None, event: Event[Any]
    ) -> None:
        """The handler's outcome of event `number`; `wrap` and `stream` note it by themselves."""
        outcome: str = "failed"
        reasons: dict[str, str] = {}
        others: dict[str, t.Said] = {}
        if error is None:
            outcome = "accepted"
        elif isinstance(error, Refused | Pending | Failed | Outcomes):
            said = error.by_key(_keys_of(event))
            reasons, others = reasons_of(said), _others(said)
            outcome = "refused" if reasons else "accepted"
        elif isinstance(error, DecodeError):
            outcome, reasons = "undecodable", {error.key: error.reason}
        self._note(
            t.Reported, watch=watch, event=number, outcome=outcome, reasons=reasons, outcomes=others
        )

    def keys_reported(self, watch: str, outcomes: Mapping[str, Said]) -> None:
        """The watch is about to say what became of keys that are open."""
        self._note(t.KeysReported, watch=watch, outcomes=_by_key(outcomes))

    def open_shown(self, watch: WatchStatus) -> None:
        """The open keys of a watch, as `status()` shows them."""
        keys = {key: (said.verdict, said.reason) for key, said in watch.open.items()}
        self._note(t.OpenShown, watch=watch.name, keys=keys)

    # -- what TappedSource calls -------------------------------------------------------------------

    def session_opened(
        self, source: str, scopes: Sequence[str], resume: int | None, added: Sequence[str]
    ) -> int:
        """A session was opened; returns its number."""
        self._sessions += 1
        self._note(
            t.SessionOpened,
            source=source,
            session=self._sessions,
            scopes=self._below(scopes),
            resume=resume,
            added=self._below(added),
        )
        return self._sessions

    def frame(self, source: str, session: int, kind: str, **carried: Any) -> None:
        """A session hands over a frame."""
        for name in ("scopes", "keys"):
            if name in carried:
                carried[name] = self._below(carried[name])
        self._note(t.SessionFrame, source=source, session=session, kind=kind, **carried)

    def session_ended(self, source: str, session: int, error: BaseException | None) -> None:
        """A session ended, or could not be opened (session 0)."""
        self._note(
            t.SessionEnded,
            source=source,
            session=session,
            error="" if error is None else repr(error),
        )

    def _below(self, keys: Sequence[str]) -> list[str]:
        return [key[len(self._root) :] for key in keys]

    def _note(self, make: Callable[..., t.Record], /, **fields: Any) -> None:
        clock = self._clock
        if clock is None:
            try:
                clock = self._clock = asyncio.get_running_loop().time
            except RuntimeError:  # no loop yet: its clock will be this one, unless it is simulated
                clock = time.monotonic
        self.trace.append(make(seq=len(self.trace), at=clock(), **fields))


def _by_key(outcomes: Mapping[str, Said]) -> dict[str, t.Said]:
    return {key: (said.verdict.value, said.reason) for key, said in outcomes_of(outcomes).items()}


def _others(outcomes: Mapping[str, KeyOutcome]) -> dict[str, t.Said]:
    """Those of the keys that were not refused."""
    return {
        key: (said.verdict.value, said.reason)
        for key, said in outcomes.items()
        if said.verdict is not Verdict.REFUSED
    }


def _keys_of(event: Event[Any]) -> set[str]:
    """All keys that it is about."""
    keys = {change.key for change in event.changes}
    if isinstance(event, ResyncEvent):
        keys.update(kv.key for found in event.values.values() for kv in found)
    return keys


class _RecordedReport:
    """Stands where an event keeps its way back, and notes what goes by."""

    def __init__(self, recorder: Recorder, watch: str, number: int, report: Any) -> None:
        self._recorder = recorder
        self._watch = watch
        self._number = number
        # an event that comes again without its undecodable keys has inherited that of the first
        self._report: Any = report._report if isinstance(report, _RecordedReport) else report

    def __call__(self, event: Event[Any], error: BaseException | None) -> None:
        self._recorder.reported(self._watch, self._number, error, event)
        if self._report is not None:
            self._report(event, error)


class RecordedStream:
    """A stream, recorded. Each `async for` over it is one over the watch."""

    def __init__(self, recorder: Recorder, watch: Any) -> None:
        self._recorder = recorder
        self._watch = watch
        self._last: tuple[int, Event[Any]] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        self.report(RuntimeError("left open by the iteration before"))
        return _Iteration(self, aiter(self._watch))

    async def next(self, events: AsyncIterator[Any]) -> Any:
        """The next event, recorded; the one before is accepted by asking."""
        self.report(None)
        self._recorder.asked(self._watch.name)
        event = await anext(events)
        self._last = (self._recorder.delivered(self._watch.name, event), event)
        return event

    def report(self, error: BaseException | None) -> None:
        """Note the outcome of the event that is open, unless it was deferred."""
        last, self._last = self._last, None
        if last is not None and not last[1]._deferred:
            self._recorder.reported(self._watch.name, last[0], error, last[1])


class _Iteration(AsyncIterator[Any]):
    def __init__(self, stream: RecordedStream, events: AsyncIterator[Any]) -> None:
        self._stream = stream
        self._events = events

    async def __anext__(self) -> Any:
        return await self._stream.next(self._events)
