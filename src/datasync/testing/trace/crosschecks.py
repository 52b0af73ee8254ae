"""The validators that look at several watches, or at sessions. Each yields
(what it is about, line)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

from datasync.source import Scopes
from datasync.testing.trace import records as t
from datasync.testing.trace import reporting
from datasync.testing.trace.index import SLACK, DeliveredEvent, TraceIndex, WatchTrace
from datasync.testing.trace.model import WatchModel
from datasync.testing.trace.publishers import offsets, verdicts

__all__ = ["ACROSS"]

Lines = Iterator[tuple[str, str]]

# -- sessions --------------------------------------------------------------------------------------


def bookmarkable(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """After a bookmark, or a snapshot, nothing comes that is as old as it, and nothing goes back.
    Where each key is ordered for itself, revisions of different keys tell nothing."""
    for opened, frames in index.sessions.values():
        can = index.sources[opened.source].capabilities
        if can.revisions and can.order == "total":
            where = f"session {opened.session}"
            yield from ((where, why) for why in _out_of_order(frames))


def _out_of_order(frames: Sequence[t.SessionFrame]) -> Iterator[str]:
    reached, newest, history = -1, -1, ""
    for frame in frames:
        at = frame.revision
        if frame.kind == "end" and frame.history != history:
            # another history, whose revisions are its own
            reached, newest, history = -1, -1, frame.history

        if frame.kind == "commit":
            if at <= reached:
                yield f"commit {at} comes after the bookmark {reached}"
            if at <= newest:
                yield f"commit {at} comes after commit {newest}"
            newest = max(newest, at)
        elif frame.kind in ("progress", "end"):
            if at < reached:
                yield f"the bookmark {at} comes after {reached}"
            if frame.kind == "progress" and at < newest:
                yield f"the bookmark {at} comes after commit {newest}"
            reached = max(reached, at)


def resumable(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """A session that is resumed goes on with the next commit of the log."""
    source = index.exact
    if source is None:
        return
    for opened, frames in index.sessions.values():
        if opened.resume is None or opened.resume < 0:
            continue
        where = f"session {opened.session}"

        # what lies in the added scopes may be shown before their snapshot as well, or not
        ways = [
            Scopes(scope for scope in opened.scopes if scope not in opened.added),
            Scopes(opened.scopes),
        ]
        first = next((frame for frame in frames if frame.kind in ("commit", "begin")), None)
        if first is None or first.kind == "begin":
            continue  # a snapshot leaves nothing out, no matter who asked for it

        expected = [
            next(
                (
                    history.revisions[n - 1]
                    for n, _, _ in history.touched(known, position, len(history))
                ),
                None,
            )
            for history in source.histories
            for position in [history.position(opened.resume)]
            for known in ways
        ]
        if first.revision not in expected:
            behind = f"went on after revision {opened.resume} with {first.revision}"
            yield where, f"{behind}, next was {expected[-1]}"


# -- rounds ----------------------------------------------------------------------------------------


def rounds(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """RESYNCs come in the order of registration, each once those before it
    have settled theirs (G6)."""
    for watch in index.in_order:
        began: DeliveredEvent | None = None
        for event in watch.events:
            if not event.is_resync or event.entry.attempt != 1 or _is_again(watch, event):
                continue
            # what came at the same moment may have been recorded in another order:
            # readers wake one after another
            since = -1 if began is None else index.seq_at(began.entry.at - SLACK)
            began = event
            if _disturbed(index, watch, since, event.entry.seq):
                continue

            for other in index.in_order[: watch.order]:
                if not _has_settled(index, watch, other, since, event):
                    yield watch.name, f"{event} comes before {other.name!r} had settled its own"


def _is_again(watch: WatchTrace, event: DeliveredEvent) -> bool:
    at = watch.events.index(event)
    return at > 0 and watch.events[at - 1].outcome == "undecodable"


def _disturbed(index: TraceIndex, watch: WatchTrace, since: int, until: int) -> bool:
    """It has been widened, narrowed or resynced for itself."""
    return any(
        isinstance(record, t.Scoped) and since < record.seq < until for record in watch.records
    ) or any(
        request.watch == watch.name and since < request.seq < until for request in index.requests
    )


def _came_late(index: TraceIndex, watch: WatchTrace) -> bool:
    """It was registered when the first RESYNC was out already, or a session
    open that may not cover it."""
    opened = any(session.seq < watch.entry.seq for session, _ in index.sessions.values())
    return opened or any(
        other.events and other.events[0].entry.seq < watch.entry.seq for other in index.in_order
    )


def _has_settled(
    index: TraceIndex, watch: WatchTrace, other: WatchTrace, since: int, event: DeliveredEvent
) -> bool:
    until, now = event.entry.seq, event.entry.at
    if since < 0 and _came_late(index, watch):
        return True  # nobody can say whether a round was under way

    if other.entry.seq > until or (other.closed is not None and other.closed.seq < until):
        return True

    for theirs in other.events_between(since, until):
        if theirs.is_resync and (theirs.settled[0] < until or theirs.settled[1] <= now + SLACK):
            return True

    # passed by: it had an event that was overdue, or nobody has read it for a while
    began = 0.0 if since < 0 else index.trace[min(since + 1, len(index.trace) - 1)].at
    for theirs in other.events:
        if theirs.entry.seq < until and theirs.overdue_at <= now + SLACK:
            reported = math.inf if theirs.report is None else theirs.report.at
            if reported >= max(began, theirs.overdue_at) - SLACK:
                return True

    if other.entry.stream:
        firsts = [
            theirs.report.at
            for theirs in other.events
            if theirs.report is not None and theirs.report.seq < until
        ]
        heard = [
            r.at for r in other.records if r.seq < until and isinstance(r, t.Asked | t.Delivered)
        ]
        times = sorted([other.entry.at, *heard, *firsts, now])
        gaps = itertools.pairwise(times)
        if any(
            back >= began and back >= away + other.entry.ack_timeout - SLACK for away, back in gaps
        ):
            return True

    return any(
        _waits_for_snapshot(index, other, seq, index.trace[seq].at)
        for seq in _turns(index, watch, other, since, event)
    )


def _turns(
    index: TraceIndex, watch: WatchTrace, other: WatchTrace, since: int, event: DeliveredEvent
) -> Iterator[int]:
    """Records at which a round was at `other`, or had gone on without it: it does not
    come back to a watch that could not have its RESYNC then."""
    of_the_round = [
        (each.order, theirs)
        for each in index.in_order[: watch.order]
        for theirs in each.events_between(since, event.entry.seq)
        if theirs.is_resync and theirs.entry.reason == event.entry.reason
    ]
    yield event.entry.seq
    yield from [theirs.entry.seq for order, theirs in of_the_round if order > other.order]

    before = [
        theirs.report
        for order, theirs in of_the_round
        if order < other.order and theirs.report is not None
    ]
    yield from [report.seq for report in before if report.seq < event.entry.seq]

    # with an event of its own in hand it may have had its turn since any of these moments
    last = max(
        (theirs.entry.seq for theirs in watch.events if theirs.entry.seq < event.entry.seq),
        default=0,
    )
    begun = [record.seq for record in (*index.snapshots, *index.requests)]
    yield from [seq for seq in begun if last < seq < event.entry.seq]


def _waits_for_snapshot(index: TraceIndex, watch: WatchTrace, until: int, now: float) -> bool:
    """It was given prefixes that nothing may be known of yet, or not before this very
    moment: readers wake later."""
    widened = [r.seq for r in watch.records if isinstance(r, t.Scoped) and r.seq < until]
    # the session that was open, or being opened, did not cover it
    beside = any(opened.seq < watch.entry.seq for opened, _ in index.sessions.values())
    if not widened and not beside and not _came_late(index, watch):
        return False
    last = widened[-1] if widened else watch.entry.seq
    shown = [event for event in watch.events_between(last, until) if event.is_resync]
    if all(event.entry.at >= now - SLACK for event in shown):
        return True
    # a layer that joins late, with a session from before, has yet to bring
    # what was registered meanwhile
    wanted = watch.scopes_at(until)
    return any(scope not in known for known in _followed(index, until) for scope in wanted)


def _followed(index: TraceIndex, until: float) -> Iterator[Scopes]:
    """The scopes of the newest session of each of several layers that had
    brought its snapshot by then."""
    for source in index.sources if len(index.sources) > 1 else ():
        ended = [
            opened
            for opened, frames in index.sessions.values()
            if opened.source == source
            and any(frame.kind == "end" and frame.seq < until for frame in frames)
        ]
        if ended:
            yield Scopes(ended[-1].scopes)


# -- registrations ---------------------------------------------------------------------------------


def fresh(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """The first RESYNC after a registration, or a wider scope, holds all that was
    acknowledged before it (G1)."""
    source = index.exact
    if source is None:
        return

    for watch in index.in_order:
        known = Scopes()
        asked: list[t.Registered | t.Scoped] = [watch.entry]
        asked += [record for record in watch.records if isinstance(record, t.Scoped)]
        for record in asked:
            before, known = known, Scopes(record.scopes)

            # one that shows less was made before, and is only received after it
            event = next(
                (e for e in watch.events if e.entry.seq > record.seq and _shows(e, known)), None
            )
            if event is None or all(scope in before for scope in known):
                continue

            started = max(h.seq for h in source.histories if h.seq < event.entry.seq)
            least = max(
                (
                    done.revision
                    for done in index.trace[: record.seq]
                    if isinstance(done, t.Committed)
                    and started < done.seq < record.seq
                    and any(key in known for key, _ in done.changes)
                ),
                default=0,
            )

            if event.entry.revision < least:
                yield (
                    watch.name,
                    f"{event} lacks revision {least}, acknowledged before it was asked for",
                )


def _shows(event: DeliveredEvent, scopes: Scopes) -> bool:
    """Whether it is a RESYNC over all of these scopes."""
    values = event.entry.values
    return values is not None and all(scope in values for scope in scopes)


# -- values ----------------------------------------------------------------------------------------


def unedited(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """Each delivery decodes again: a handler reads what was stored, whatever it
    did to an earlier one (G7)."""
    for read in index.reads:
        if read.value != read.raw:
            yield read.watch, f"{read.key!r} was read as {read.value!r}, stored was {read.raw!r}"


# -- isolation and the end -------------------------------------------------------------------------


def isolation(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """A watch that waits for nothing gets its change at once, however slow the others are (G9)."""
    source = index.exact
    if source is None or not index.sessions:
        return
    if len(source.histories) > 1:
        return  # a revision may stand for several commits

    handed = _handed(index)
    for watch in index.in_order:
        if any(
            index.watches[name].entry.stream for name in watch.entry.after if name in index.watches
        ):
            continue

        free = -math.inf
        for record in watch.records:
            if isinstance(record, t.Asked | t.Reported):
                free = record.at
            elif isinstance(record, t.Delivered) and record.values is None and record.attempt == 1:
                since = max(
                    free, handed.get(record.revision, math.inf), _waited_for(index, watch, record)
                )

                others = [
                    index.watches[name] for name in watch.entry.after if name in index.watches
                ]
                if any(
                    _waits_for_snapshot(index, other, record.seq, record.at) for other in others
                ):
                    # it is waited for until its source is known to be lost, and a while longer
                    continue

                if record.at > since + index.latency and since < math.inf:
                    yield watch.name, f"event {record.event} came {record.at - since:.6g} s late"


def _handed(index: TraceIndex) -> dict[int, float]:
    """From when on the engine could deliver each commit, by its revision."""
    handed: dict[int, float] = {}
    for opened, frames in index.sessions.values():
        before = [number for number in index.sessions if number < opened.session]
        takes_over = max(map(index.ended_at, before), default=0.0)
        for frame in frames:
            if frame.kind == "commit":
                # what the session before it has not shown by its end comes when this one
                # takes over; of what both have shown, the later counts, for nobody knows
                # which of them was followed then
                at = frame.at if frame.revision in handed else max(frame.at, takes_over)
                handed[frame.revision] = max(at, handed.get(frame.revision, 0.0))
    return handed


def _waited_for(index: TraceIndex, watch: WatchTrace, event: t.Delivered) -> float:
    """Until when it had to wait for the watches that it names in `after`."""
    latest, before = -math.inf, event.seq
    for name in watch.entry.after:
        other = index.watches.get(name)
        if other is None:
            continue

        earlier = [theirs for theirs in other.events if theirs.entry.seq < before]
        for theirs in earlier:
            latest = max(
                latest,
                min(theirs.settled[1], math.inf)
                if theirs.settled[0] < before
                else theirs.overdue_at,
            )

        if earlier and _writes_in(index, other, event):
            # it may have something to say on this, until it is free to take it, or passed by
            asked = [
                r.at
                for r in other.records
                if isinstance(r, t.Asked) and r.seq > earlier[-1].entry.seq
            ]
            latest = max(
                latest, min([*asked[:1], earlier[-1].settled[1] + other.entry.ack_timeout])
            )

        if other.closed is not None and other.closed.seq < before:
            latest = max(latest, other.closed.at)

    return latest


def _writes_in(index: TraceIndex, watch: WatchTrace, event: t.Delivered) -> bool:
    """The commit of that event writes in the scopes of the watch too; not known of a fold."""
    assert index.exact is not None
    history, scopes = index.exact.histories[0], watch.scopes_at(event.seq)
    changes = history.commits[history.position(event.revision) - 1]
    return event.commits > 1 or any(key in scopes for key, _ in changes)


def dependent(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """A watch with `after=` gets its part of a transaction once those named
    there have settled theirs (G4)."""
    if index.exact is None or len(index.exact.histories) > 1:
        return

    for watch in index.in_order:
        others = [index.watches[name] for name in watch.entry.after if name in index.watches]
        for event in watch.events:
            if (
                event.is_resync
                or event.entry.commits > 1
                or event.entry.attempt > 1
                or event.entry.undecodable
            ):
                continue

            for other in others:
                if other.entry.stream or (
                    other.closed is not None and other.closed.seq < event.entry.seq
                ):
                    continue  # nobody may read it, and it is then passed by

                part = [part for part in other.events if _same_commit(part, event)]
                held_up = any(
                    before.entry.seq < event.entry.seq < before.settled[0]
                    or before.first == "overdue"
                    for before in other.events
                    if before not in part
                )

                in_time = event.entry.at < (part[0].overdue_at if part else math.inf) - SLACK
                if part and in_time and not held_up and part[0].settled[0] > event.entry.seq:
                    yield (
                        watch.name,
                        f"{event} came before {other.name!r} had settled its part, {part[0]}",
                    )


def _same_commit(part: DeliveredEvent, event: DeliveredEvent) -> bool:
    return (
        not part.is_resync
        and part.entry.commits == part.entry.attempt == 1
        and part.entry.revision == event.entry.revision
        and not part.entry.undecodable
    )


def convergence(index: TraceIndex, models: dict[str, WatchModel]) -> Lines:
    """Once all is quiet, what a watch has accepted, RESYNC and all CHANGEs
    folded, equals the store."""
    merged = index.merged
    if index.quiet is None or merged is None:
        return

    for watch in index.in_order:
        model = models[watch.name]
        if watch.closed is not None or (watch.entry.stream and not _attended(watch)):
            continue

        if model.last is None:
            yield watch.name, "has never been given a RESYNC"
            continue
        if model.last.report is None:
            continue  # its handler still sits on it
        if model.last.outcome == "failed":
            yield watch.name, f"{model.last} failed and never came again"
            continue

        scopes = watch.scopes_at(math.inf)
        expected = {key: raw for key, raw in merged.items() if key in scopes}
        for key in sorted(expected.keys() | model.accepted.keys()):
            if key not in model.dirty and expected.get(key) != model.accepted.get(key):
                yield (
                    watch.name,
                    (
                        f"{key!r} ends as {model.accepted.get(key)!r}, the store has "
                        f"{expected.get(key)!r}"
                    ),
                )


def views(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """A view shows a state of the log, no older than the revision waited for; and what
    the stores hold at the end."""
    for view in index.views:
        where, scopes = f"the view of {view.scope!r}", Scopes([view.scope])
        if index.quiet is not None and index.quiet.seq < view.seq:
            if view.values != {
                key: raw for key, raw in (index.merged or {}).items() if key in scopes
            }:
                yield where, "does not end as the stores do"
        elif index.exact is not None and len(index.exact.histories) == 1:
            history = index.exact.histories[0]
            positions = range(max(0, history.position(view.revision)), len(history) + 1)
            if all(
                view.values != {key: raw for key, raw, _ in history.state(scopes, at)}
                for at in positions
            ):
                yield where, f"shows no state of the store from revision {view.revision} on"


def _attended(watch: WatchTrace) -> bool:
    last = next((r for r in reversed(watch.records) if isinstance(r, t.Asked | t.Delivered)), None)
    return isinstance(last, t.Asked)


ACROSS: dict[str, Callable[[TraceIndex, dict[str, WatchModel]], Lines]] = {
    "bookmarkable": bookmarkable,
    "resumable": resumable,
    "rounds": rounds,
    "fresh": fresh,
    "verdicts": verdicts,
    "offsets": offsets,
    "unedited": unedited,
    "isolation": isolation,
    "dependent": dependent,
    "convergence": convergence,
    "views": views,
    "answered": reporting.answered,
    "records": reporting.records,
    "progress": reporting.progress,
    "settled": reporting.settled,
    "believed": reporting.believed,
    "present": reporting.present,
    "rivals": reporting.rivals,
    "rest": reporting.rest,
}
