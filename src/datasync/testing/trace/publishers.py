"""The validators of what publishers are told. Each yields (what it is about, line)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from datasync.testing.trace import records as t
from datasync.testing.trace.history import SourceLog
from datasync.testing.trace.index import SLACK, DeliveredEvent, TraceIndex, WatchTrace
from datasync.testing.trace.model import WatchModel

__all__ = ["offsets", "verdicts"]

Lines = Iterator[tuple[str, str]]

_WORSE = ["unwatched", "accepted", "pending", "refused", "failed", "overdue"]


def verdicts(index: TraceIndex, models: dict[str, WatchModel]) -> Lines:
    """A publisher hears the worst of the first outcomes at the watches that
    its write concerns (G7), and the outcomes of its own keys."""
    source = index.exact
    if source is None:
        return
    for answer in index.answers:
        about = f"the write of {', '.join(answer.keys)} at revision {answer.revision}"
        if answer.verdict not in _WORSE:
            yield about, f"has the verdict {answer.verdict!r}"
            continue

        if any(
            answer.began < index.entered(history) and history.seq < answer.seq
            for history in source.histories[1:]
        ):
            # a revision of another history than the one followed then: nobody can tell them apart
            continue

        matching: Sequence[WatchTrace] = [
            watch for watch in index.in_order if _concerned(watch, answer)
        ]
        certain = [watch for watch in matching if _surely(watch, answer)]
        if answer.verdict == "unwatched" and certain:
            yield about, f"is called unwatched, but {certain[0].name!r} watches it"

        known = [(watch, event) for watch in matching for event in _open_meanwhile(watch, answer)]
        if source.capabilities.reply:  # the answer may have come with that of a whole RESYNC
            matching = index.in_order
            known = [
                (watch, event) for watch in matching for event in _open_meanwhile(watch, answer)
            ]

        yield from _by_key(index, models, answer, matching, certain, about)
        bad = answer.verdict in ("refused", "failed", "overdue")
        if bad and not _witnessed(index, models, answer, matching, known):
            yield about, f"is {answer.verdict}, but no watch says so"
        for watch in certain if answer.verdict not in ("unwatched", "overdue") else ():
            yield from _settled_in_time(source, answer, watch, about)


def _by_key(
    index: TraceIndex,
    models: dict[str, WatchModel],
    answer: t.Answered,
    matching: Sequence[WatchTrace],
    certain: Sequence[WatchTrace],
    about: str,
) -> Lines:
    """What is said of single keys: a watch has said it of each, the verdict is none better, and a
    key that is open all the time is not called accepted."""
    source = index.exact
    assert source is not None
    for key, said in answer.opened.items():
        seen = (models[watch.name].outcomes(key, answer.began, answer.seq) for watch in matching)
        if not any(said in outcomes for outcomes in seen):
            yield about, f"hears of {key!r} that it is {said[0]} ({said[1]}), but no watch says so"
        if _WORSE.index(said[0]) > _WORSE.index(answer.verdict):
            yield about, f"is {answer.verdict}, though {key!r} is {said[0]}"

    if not source.capabilities.reply:
        for key in sorted({*answer.opened, *answer.reasons}.difference(answer.keys)):
            yield about, f"hears of {key!r}, which is not one of its keys"

    if answer.verdict == "pending" and not answer.opened:
        yield about, "is pending, but none of its keys is"

    if answer.verdict != "accepted":
        return
    for watch in certain:
        scopes = watch.scopes_at(answer.seq)
        for key in (key for key in answer.keys if key in scopes):
            outcomes = models[watch.name].outcomes(key, answer.began, answer.seq)
            if None not in outcomes and _is_last_write(source, answer, key):
                yield about, f"is accepted, though {key!r} is open at {watch.name!r}"


def _is_last_write(source: SourceLog, answer: t.Answered, key: str) -> bool:
    """Nobody has written the key again since."""
    history = [one for one in source.histories if one.seq < answer.seq][-1]
    position = history.position(answer.revision)
    return history.written_in(key, position, len(history)) is None


def _concerned(watch: WatchTrace, answer: t.Answered) -> bool:
    """The watch had any of these keys in its scopes at some moment between
    the write and the answer."""
    if watch.entry.seq > answer.seq or (
        watch.closed is not None and watch.closed.seq < answer.began
    ):
        return False
    moments = [
        answer.began,
        answer.seq,
        *(r.seq + 0.5 for r in watch.records if isinstance(r, t.Scoped)),
    ]
    return any(
        key in watch.scopes_at(moment)
        for moment in moments
        if moment <= answer.seq
        for key in answer.keys
    )


def _surely(watch: WatchTrace, answer: t.Answered) -> bool:
    """The watch had some of them all the time, and has not been widened or narrowed meanwhile."""
    if watch.entry.seq > answer.began or (
        watch.closed is not None and watch.closed.seq < answer.seq
    ):
        return False
    scoped = [record.seq for record in watch.records if isinstance(record, t.Scoped)]
    if any(answer.began <= seq < answer.seq for seq in scoped):
        return False
    return any(key in watch.scopes_at(answer.seq) for key in answer.keys)


def _open_meanwhile(watch: WatchTrace, answer: t.Answered) -> list[DeliveredEvent]:
    """The events that were reported on, or not yet, between the write and the answer."""
    return [
        event
        for event in watch.events
        if event.entry.seq < answer.seq
        and (event.report is None or event.report.seq >= answer.began)
    ]


def _covering(watch: WatchTrace, answer: t.Answered) -> list[DeliveredEvent]:
    """The events, delivered between the write and the answer, that may contain the write."""
    return [
        event
        for event in watch.events_between(answer.began - 1, answer.seq)
        if event.entry.revision >= answer.revision
    ]


def _witnessed(
    index: TraceIndex,
    models: dict[str, WatchModel],
    answer: t.Answered,
    matching: Sequence[WatchTrace],
    known: list[tuple[WatchTrace, DeliveredEvent]],
) -> bool:
    if answer.verdict == "overdue":
        # also a watch that was passed by already, and the limit of the publisher itself
        began = index.trace[answer.began].at if answer.began < len(index.trace) else answer.at
        shortest = min((watch.entry.ack_timeout for watch in matching), default=0.0)
        passed = any(
            event.overdue_at <= answer.at + SLACK
            and (event.report is None or event.report.at >= began - SLACK)
            for watch in matching
            for event in watch.events
            if event.entry.seq < answer.seq
        )
        return (
            passed
            or answer.at - began >= shortest - SLACK
            or any(watch.entry.stream for watch in matching)
        )

    if answer.verdict == "refused":
        reasons = {item for _, event in known for item in event.reasons.items()}
        undecodable = {key for _, event in known for key in event.entry.undecodable}
        for key, why in answer.reasons.items():
            said = [
                models[watch.name].outcomes(key, answer.began, answer.seq) for watch in matching
            ]
            earlier = any(not {("refused", why), ("refused", "")}.isdisjoint(one) for one in said)
            if not earlier and (key, why) not in reasons and key not in undecodable:
                return False
        return True

    if answer.verdict == "failed" and any(said == "failed" for said, _ in answer.opened.values()):
        return True  # which is seen to by key
    return any(event.outcome == "failed" for _, event in known)


def _settled_in_time(source: SourceLog, answer: t.Answered, watch: WatchTrace, about: str) -> Lines:
    """The watch has settled the write when its publisher hears of it, unless
    there was nothing to settle."""
    keys = [key for key in answer.keys if key in watch.scopes_at(answer.seq)]
    events = _covering(watch, answer)

    if any(
        event.settled[0] < answer.seq or event.settled[1] <= answer.at + SLACK for event in events
    ):
        first = events[0]
        asked = _is_in(first, answer, keys) and not all(
            _is_needless(source, watch, first, key, answer) for key in keys
        )
        if answer.verdict == "accepted" and first.entry.attempt == 1 and asked:
            left = first.first in ("accepted", "refused") and (
                (first.reasons.keys() | first.opened.keys()) & set(keys)
            )
            if left or first.first in ("failed", "overdue"):
                yield about, f"is accepted, though {watch.name!r} says {first.first}"
        return

    if any(_had_deleted(event, answer, keys) for event in watch.events):
        # it found nothing to delete, and was told the revision of the one that did delete it
        return
    for history in source.histories:
        if answer.revision == history.start:
            return  # it found nothing to delete, where nothing had been written yet

        position = bisect_left(history.revisions, answer.revision)
        if position >= len(history) or history.revisions[position] != answer.revision:
            continue
        # nothing to do: no difference, or written again since
        if all(
            history.is_same(key, position + 1)
            or history.written_in(key, position + 1, len(history)) is not None
            for key in keys
        ):
            return
        if all(_stands_there(watch, answer, key, history.value(key, position + 1)) for key in keys):
            return  # folded, it came to what the watch had accepted last

        deleted = all(history.value(key, position + 1) is None for key in keys)
        if deleted and not any(event.entry.seq > answer.seq for event in watch.events):
            # it was shown nothing more, which would tell this delete from one after it that found
            # nothing to delete, and was told the revision of this one
            return

    if any(event.entry.seq < answer.seq and event.report is None for event in watch.events):
        return  # overdue: the publisher does not hear of this one
    if watch.entry.stream and not any(isinstance(record, t.Asked) for record in watch.records):
        return
    yield about, f"is {answer.verdict} before {watch.name!r} has settled it"


def _stands_there(
    watch: WatchTrace, answer: t.Answered, key: str, value: tuple[bytes, int] | None
) -> bool:
    """The last that the watch had accepted of the key, when its publisher heard, is that value."""
    shown = [event for event in watch.events if key in event.keys and event.settled[0] < answer.seq]
    if not shown or shown[-1].outcome != "accepted" or key in shown[-1].entry.undecodable:
        return False
    steps = {step.key: step.raw for step in shown[-1].entry.changes}
    raw = steps[key] if key in steps else shown[-1].values[key][0]
    return raw == (None if value is None else value[0])


def _had_deleted(event: DeliveredEvent, answer: t.Answered, keys: Sequence[str]) -> bool:
    """The event brought deletes of these keys at this very revision, and was
    accepted before the write began."""
    if (
        event.entry.revision != answer.revision
        or event.settled[0] >= answer.began
        or event.outcome != "accepted"
    ):
        return False
    return set(keys) <= {step.key for step in event.entry.changes if step.raw is None}


def _is_in(event: DeliveredEvent, answer: t.Answered, keys: Sequence[str]) -> bool:
    """The event holds this very write, of one of these keys, and nobody has written them again."""
    if not event.is_resync:
        return event.entry.commits == 1 and event.entry.revision == answer.revision
    shown = [event.values.get(key) for key in keys]
    return all(value is not None and value[1] == answer.revision for value in shown)


def _is_needless(
    source: SourceLog, watch: WatchTrace, event: DeliveredEvent, key: str, answer: t.Answered
) -> bool:
    """There was nothing to do: the key was deleted in vain; or written again with the bytes that
    the watch had accepted, which a RESYNC shows for another reason."""
    for history in source.histories:
        position = history.position(answer.revision)
        if (
            position > 0
            and history.revisions[position - 1] == answer.revision
            and history.is_same(key, position)
        ):
            return history.value(key, position) is None or (
                event.is_resync and _had_accepted(watch, event, key)
            )
    return False


def _had_accepted(watch: WatchTrace, event: DeliveredEvent, key: str) -> bool:
    before = [
        earlier
        for earlier in watch.events
        if earlier.entry.seq < event.entry.seq and key in earlier.keys
    ]
    if not before or before[-1].outcome not in ("accepted", "refused"):
        return False
    return key not in before[-1].reasons and key not in before[-1].entry.undecodable


def offsets(index: TraceIndex, _: dict[str, WatchModel]) -> Lines:
    """The offset of a consumer group never passes an event that has not settled."""
    for stored in index.offsets:
        for watch in index.in_order:
            for event in watch.events:
                passed = (
                    event.entry.source == stored.source and event.entry.revision <= stored.revision
                )
                if passed and event.entry.seq < stored.seq < event.settled[0]:
                    yield (
                        watch.name,
                        f"{event} has not settled, but the offset {stored.revision} was stored",
                    )
