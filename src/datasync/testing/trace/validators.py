"""The validators of one event at a time, as its watch sees it. Each yields a
line for whatever does not hold.

`model` is what the watch has accepted before. Those of `BY_LOG` are asked for
a position in the log of a source that foretells everything (one total order, exact snapshots,
every value); `BY_WATCH` need none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from datasync.source import Scopes
from datasync.testing.trace import records as t
from datasync.testing.trace.index import SLACK, DeliveredEvent
from datasync.testing.trace.model import Position, WatchModel

__all__ = ["BY_LOG", "BY_WATCH"]

NEW_HISTORY = "new history"
Lines = Iterator[str]


# -- what holds for any source ---------------------------------------------------------------------


def filter_(model: WatchModel, event: DeliveredEvent) -> Lines:
    """Nothing but what is watched, and nothing once the watch is closed."""
    watch, entry = model.watch, event.entry
    if watch.closed is not None and watch.closed.seq < entry.seq:
        yield "comes after the watch was closed"

    if event.is_resync:
        assert entry.values is not None
        wanted = watch.scopes_at(entry.seq)
        if Scopes(entry.values) != wanted and not _just_now(model, entry):
            yield f"has the prefixes {list(entry.values)}, watched are {list(wanted)}"
        for scope, items in entry.values.items():
            keys = [item[0] for item in items]
            if keys != sorted(set(keys)):
                yield f"{scope!r} is not in key order, each key once"
            for key in keys:
                if key not in Scopes([scope]):
                    yield f"{key!r} does not lie under {scope!r}"

    for step in entry.changes:
        known = event.is_resync and (
            step.key in model.accepted or step.key in model.dirty | model.doubtful
        )
        if (
            step.key not in model.scopes
            and step.key not in Scopes(entry.values or ())
            and not known
        ):
            yield f"{step.key!r} is not watched"


def one_at_a_time(model: WatchModel, event: DeliveredEvent) -> Lines:
    """A watch has at most one event that is not reported, and its handler
    never runs twice at once."""
    last = model.last
    if last is not None and (last.report is None or last.report.seq > event.entry.seq):
        yield f"comes before {last} was reported"
    if model.busy:
        yield "comes while the handler is still at work"


def resync_first(model: WatchModel, event: DeliveredEvent) -> Lines:
    """No CHANGE before a RESYNC was accepted, and none while another one is due (G1, G6)."""
    if event.is_resync:
        return
    if not model.gate_open:
        yield "comes before a RESYNC was accepted"
    elif (disturbed := model.disturbed) is not None:
        # where time passes by itself, one CHANGE may have been on its way already
        first = model.last is None or model.last.entry.seq < disturbed.seq
        if disturbed.at + (model.index.latency if first else SLACK) < event.entry.at:
            yield f"comes though a RESYNC is due ({type(disturbed).__name__.lower()})"


def unique(model: WatchModel, event: DeliveredEvent) -> Lines:
    """Each key once in an event, and nothing again that was accepted."""
    seen: set[str] = set()
    for step in event.entry.changes:
        if step.key in seen:
            yield f"{step.key!r} is in it twice"
        seen.add(step.key)
        if (
            step.raw is None
            or event.is_resync
            or step.key in model.dirty
            or step.key in model.doubtful
        ):
            continue
        log = model.index.sources.get(step.source)
        taken = model.taken.get((step.source, step.key))
        if log is None or taken is None or not log.capabilities.revisions:
            continue
        if (
            taken in list(log.moments(step.key, step.raw, step.revision))
            and model.accepted.get(step.key) == step.raw
        ):
            yield f"{step.key!r} at revision {step.revision} was accepted before"


def prev_chain(model: WatchModel, event: DeliveredEvent) -> Lines:
    """`prev` is what this watch accepted last (G5)."""
    for step in event.entry.changes:
        accepted = model.accepted.get(step.key)
        if step.prev != accepted:
            yield f"{step.key!r} has prev {step.prev!r}, accepted was {accepted!r}"


def needless(model: WatchModel, event: DeliveredEvent) -> Lines:
    """What changes nothing for the watch is not delivered, unless the key is dirty (G5)."""
    for step in event.entry.changes:
        clean = step.key not in model.dirty and step.key not in model.doubtful
        if clean and step.raw == model.accepted.get(step.key):
            yield f"{step.key!r} does not change anything"
    if not event.is_resync and not event.entry.changes and not event.entry.undecodable:
        yield "holds no change"


def resync_changes(model: WatchModel, event: DeliveredEvent) -> Lines:
    """The changes of a RESYNC are the difference between its values and
    what the watch accepted (G5)."""
    if not event.is_resync:
        return
    named = {step.key: step for step in event.entry.changes}
    for key in sorted(model.accepted.keys() | event.values.keys() | model.dirty | named.keys()):
        if key in event.entry.undecodable:
            continue
        value = event.values.get(key)
        now = None if value is None else value[0]
        if key in named and named[key].raw != now:
            yield f"{key!r} becomes {named[key].raw!r} by its changes, {now!r} by its values"
        elif key not in named and (now != model.accepted.get(key) or key in model.dirty):
            yield f"{key!r} is missing in its changes"


def attempts(model: WatchModel, event: DeliveredEvent) -> Lines:
    """`attempt` counts the tries: one more after a failure, 1 otherwise (G7)."""
    last, attempt = model.last, event.entry.attempt
    if last is None or last.outcome in ("accepted", "refused"):
        if attempt != 1:
            yield f"is attempt {attempt}, though nothing failed"
    elif last.outcome == "undecodable" and attempt == last.entry.attempt:
        refused = (last.report.reasons if last.report is not None else {}).keys() | set(
            last.entry.undecodable
        )
        if (
            event.is_resync == last.is_resync
            and not refused <= set(event.entry.undecodable) | {""}
            and attempt > 1
        ):
            yield f"does not name {sorted(refused)} as undecodable"
    elif attempt != last.entry.attempt + 1 and not (attempt == 1 and event.is_resync):
        yield f"is attempt {attempt} after attempt {last.entry.attempt} failed"


def moments(model: WatchModel, event: DeliveredEvent) -> Lines:
    """Each key was once as shown, and not before what was shown of it
    already (G3): order for each key."""
    scopes = Scopes(event.entry.values) if event.entry.values is not None else model.scopes
    for source, key, raw, revision in model.shown(event):
        log = model.index.sources.get(source)
        if log is None:
            yield f"{key!r} comes from {source!r}, which nobody declared"
        elif key in scopes and model.moment(log, key, raw, revision) is None:
            was = next(iter(log.moments(key, raw, revision)), None)
            yield (
                f"{key!r} was never {raw!r} (revision {revision})"
                if was is None
                else (f"{key!r} goes back to {raw!r} (revision {revision})")
            )


def key_gaps(model: WatchModel, event: DeliveredEvent) -> Lines:
    """Of each key, no value is left out, where the source shows every value and
    nothing was folded (G2, G3)."""
    log = model.index.only
    if log is None or event.is_resync or event.entry.commits != 1 or event.entry.attempt != 1:
        return
    if (
        model.index.exact is not None
        or not log.capabilities.every_value
        or not log.capabilities.revisions
    ):
        return

    for step in event.entry.changes:
        now = model.moment(log, step.key, step.raw, step.revision)
        if now is None or step.raw is None or step.key in model.dirty | model.doubtful:
            continue

        before = [
            found
            for found in log.moments(step.key, model.accepted.get(step.key), None)
            if found < now
        ]
        taken = before[-1] if before else now
        if taken[0] != now[0]:
            continue
        steps = log.histories[now[0]].touched(Scopes([step.key]), taken[1], now[1])
        if sum(differs for _, _, differs in steps) > 1:
            yield f"{step.key!r} leaves out a value before revision {step.revision}"


def open_keys(model: WatchModel, shown: t.OpenShown) -> Iterator[str]:
    """The status shows the open keys of a watch as it said of them last (G7)."""
    for key in sorted(model.open.keys() | shown.keys.keys()):
        said, seen = model.open.get(key), shown.keys.get(key)
        if seen != said:
            yield f"{key!r} is shown as {seen}, the watch said {said}"


# -- what the log of an exact source foretells -----------------------------------------------------


def ordered(model: WatchModel, event: DeliveredEvent, at: Position) -> Lines:
    """Revisions grow from event to event; nothing in an event is newer than it."""
    if not event.is_resync and at.position <= at.base:
        accepted = at.history.revision(at.base)
        yield f"does not come after revision {accepted}, which the watch has accepted"
    for _, key, raw, revision in model.shown(event):
        if raw is not None and revision > event.entry.revision:
            yield f"{key!r} has revision {revision}"


def time_travel(model: WatchModel, event: DeliveredEvent, at: Position) -> Lines:
    """No event shows a state older than one shown already (G3)."""
    if at.position < at.seen:
        yield f"goes back behind revision {at.history.revision(at.seen)}"


def new_history(model: WatchModel, event: DeliveredEvent, at: Position) -> Lines:
    """Another history begins with a RESYNC that says so (G3), as far as the source can tell."""
    if model.bases and at.entered and NEW_HISTORY not in event.entry.reason:
        began, until = at.history.seq, event.entry.seq
        forgotten = any(began < compaction.seq < until for compaction in model.index.compactions)
        if event.entry.reason.startswith("history lost") and (
            forgotten or _begins_beyond(model, at)
        ):
            # what told one history from the other may have been compacted away before anybody asked
            return
        yield f"is in the history {at.history.name!r}, but its reason is {event.entry.reason!r}"


def resync_values(model: WatchModel, event: DeliveredEvent, at: Position) -> Lines:
    """The values of a RESYNC are the replayed log at its revision (G1)."""
    if not event.is_resync:
        return
    if at.position < 0:
        yield f"is older than the history {at.history.name!r}"
        return
    for scope, items in (event.entry.values or {}).items():
        expected = {
            key: (raw, rev) for key, raw, rev in at.history.state(Scopes([scope]), at.position)
        }
        given = {key: (raw, rev) for key, raw, rev, _ in items}
        for key in event.entry.undecodable:
            expected.pop(key, None)
        if given != expected:
            wrong = sorted(
                key for key in given.keys() | expected.keys() if given.get(key) != expected.get(key)
            )
            key = wrong[0]
            yield (
                f"{len(wrong)} of the keys under {scope!r} differ from the store, first {key!r}: "
                f"{given.get(key)!r}, stored was {expected.get(key)!r}"
            )


def change_values(model: WatchModel, event: DeliveredEvent, at: Position) -> Lines:
    """The value of a change is that of the log at the revision of its event."""
    if event.is_resync or at.position < 0:
        return
    for step in event.entry.changes:
        stored = at.history.value(step.key, at.position)
        given = None if step.raw is None else (step.raw, step.revision)
        if given != stored:
            yield f"{step.key!r} is {given!r}, stored was {stored!r}"
        elif (
            at.history.written_in(step.key, at.base, at.position) is None
            and step.key not in model.dirty
        ):
            yield f"{step.key!r} was not written since revision {at.history.revision(at.base)}"


def atomic(model: WatchModel, event: DeliveredEvent, at: Position) -> Lines:
    """A commit comes whole (G4)."""
    present = {step.key for step in event.entry.changes}
    for key, position in _missing(model, event, at):
        beside = [other for other, _ in at.history.commits[position - 1] if other in present]
        if beside:
            yield f"{key!r} is missing, though {beside[0]!r} of the same commit is there"


def reliable(model: WatchModel, event: DeliveredEvent, at: Position) -> Lines:
    """Nothing between two events is left out (G2)."""
    present = {step.key for step in event.entry.changes}
    for key, position in _missing(model, event, at):
        if not any(other in present for other, _ in at.history.commits[position - 1]):
            yield f"{key!r}, written at revision {at.history.revision(position)}, is left out"
    if not model.first_change:
        yield from _wrong_count(model, event, at)


def first_change(model: WatchModel, event: DeliveredEvent, at: Position) -> Lines:
    """The first CHANGE after a RESYNC is the next of the log (G2)."""
    if model.first_change:
        yield from _wrong_count(model, event, at)


def _missing(model: WatchModel, event: DeliveredEvent, at: Position) -> Iterator[tuple[str, int]]:
    """The keys that a CHANGE ought to hold and does not, with the position of their last write."""
    if event.is_resync:
        return
    present = {step.key for step in event.entry.changes} | set(event.entry.undecodable)
    written: dict[str, int] = {}
    for position, keys, _ in at.history.touched(model.scopes, at.base, at.position):
        written.update(dict.fromkeys(keys, position))
    for key, position in written.items():
        stored = at.history.value(key, at.position)
        differs = (None if stored is None else stored[0]) != model.accepted.get(key)
        # a snapshot in between may have hidden that a dirty key was written again
        due = not _snapshot_between(model, event, at) if _is_dirty(model, key, at) else differs
        if due and key not in present:
            yield key, position


def _is_dirty(model: WatchModel, key: str, at: Position) -> bool:
    """Whether the last write of the key up to there came when it was dirty."""
    late = model.refused_late.get(key)
    if late is None:
        return key in model.dirty
    stored = [
        at.history.revision(where)
        for where, keys, _ in at.history.touched(Scopes([key]), at.base, at.position)
    ]
    return bool(stored) and model.index.taken_over(stored[-1]) > late


def _wrong_count(model: WatchModel, event: DeliveredEvent, at: Position) -> Lines:
    """`commits` says for how many commits the event stands: at least those that
    differ, at most those that write."""
    if event.is_resync:
        return
    if _snapshot_between(model, event, at):
        return  # the snapshot of a wider session makes several commits look like one

    most, least = 0, 0
    differ: set[str] = set()
    for position, keys, differs in at.history.touched(model.scopes, at.base, at.position):
        most += 1
        least += differs
        for key in keys:
            stored = at.history.value(key, position)
            # what was shown already made it dirty only then: until then it may have come to nothing
            dirty = key in model.dirty and position > at.seen
            if (None if stored is None else stored[0]) != model.accepted.get(key) or dirty:
                differ.add(key)
            else:
                differ.discard(key)
        if not differ and position < at.position:
            least = 0  # so far it comes to nothing: folded, it is not delivered

    if not least <= event.entry.commits <= max(1, most):
        yield (
            f"stands for {event.entry.commits} commits, but {least} lie between it and the "
            "one before"
        )


def _begins_beyond(model: WatchModel, at: Position) -> bool:
    """Whether the history begins at a later revision than the watch was shown of any other."""
    source = model.index.exact
    shown = (
        []
        if source is None
        else [source.histories[number].revision(seen) for number, seen in model.seen.items()]
    )
    return all(revision < at.history.start for revision in shown)


def _snapshot_between(model: WatchModel, event: DeliveredEvent, at: Position) -> bool:
    """Whether a snapshot came in between: after the last event, or after commits
    that the watch was given since."""
    base, entry = at.history.revision(at.base), event.entry
    return any(
        frame.seq < entry.seq
        and (model.base_seq < frame.seq or base < frame.revision <= entry.revision)
        for frame in model.index.snapshots
    )


def _just_now(model: WatchModel, entry: t.Delivered) -> bool:
    return any(
        isinstance(record, t.Scoped) and abs(record.at - entry.at) < SLACK
        for record in model.watch.records
    )


BY_WATCH: dict[str, Callable[[WatchModel, DeliveredEvent], Lines]] = {
    "filter": filter_,
    "one-at-a-time": one_at_a_time,
    "resync-first": resync_first,
    "unique": unique,
    "prev-chain": prev_chain,
    "needless": needless,
    "resync-changes": resync_changes,
    "attempts": attempts,
    "key-order": moments,
    "key-gaps": key_gaps,
}
BY_LOG: dict[str, Callable[[WatchModel, DeliveredEvent, Position], Lines]] = {
    "ordered": ordered,
    "time-travel": time_travel,
    "new-history": new_history,
    "resync-values": resync_values,
    "change-values": change_values,
    "atomic": atomic,
    "reliable": reliable,
    "first-change": first_change,
}
