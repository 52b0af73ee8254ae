"""What a round comes to: the trace held against the guarantees, and the writers'
acknowledgements against the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from datasync.capabilities import Capabilities
from datasync.testing.chaos.application import Acknowledged
from datasync.testing.chaos.store import Log
from datasync.testing.trace import records as t
from datasync.testing.trace.checker import check

__all__ = ["LATENCY", "judge"]

LATENCY = 60.0
"""Seconds that anything may take on a machine that has much else to do."""

Values = Mapping[str, bytes | None]


def judge(
    trace: t.Trace,
    can: Capabilities,
    logs: Sequence[Log],
    acknowledged: Sequence[Acknowledged],
    undone: Sequence[Values],
    unexpected: Sequence[str],
) -> list[str]:
    """All that does not hold, a line each. `logs`: that of each history, in order."""
    lines = [str(violation) for violation in check(trace, latency=LATENCY)]
    lines += (f"honest-writes: {line}" for line in _honest(can, logs, acknowledged, undone))
    if can.revisions and can.order == "total":
        lines += (f"fresh: {line}" for line in _fresh(trace, acknowledged))
    lines += (f"unexpected: {line}" for line in unexpected)
    return lines


def _honest(
    can: Capabilities,
    logs: Sequence[Log],
    acknowledged: Sequence[Acknowledged],
    undone: Sequence[Values],
) -> Iterator[str]:
    """What was acknowledged is in the log, at the revision that was told; what was
    surely not done is not (G10)."""
    written = [{(key, raw) for _, changes in log for key, raw in changes.items()} for log in logs]
    for write in acknowledged:
        values = {(key, raw) for key, raw in write.values.items() if raw is not None}
        lost = values - written[write.history]
        if lost:
            yield (
                f"{min(lost)[0]!r} was acknowledged at revision {write.revision}, and is not "
                "in the log"
            )
        elif values and can.order == "total" and write.revision is not None:
            at = next(
                (
                    revision
                    for revision, changes in logs[write.history]
                    if values <= set(changes.items())
                ),
                None,
            )
            if at != write.revision:
                yield (
                    f"{min(values)[0]!r} was acknowledged at revision {write.revision}, and "
                    f"is at {at}"
                )

    everything = set().union(*written)
    for denied in undone:
        for key, raw in denied.items():
            if raw is not None and (key, raw) in everything:
                yield f"{key!r} was said to be not written, and is in the log"


def _fresh(trace: t.Trace, acknowledged: Sequence[Acknowledged]) -> Iterator[str]:
    """The first RESYNC of a watch holds all that was acknowledged, to anybody, before it was
    registered (G1). While the source is lost, it shows what is known."""
    renewed = [record.seq for record in trace if isinstance(record, t.HistoryStarted)]

    first: dict[str, t.Delivered] = {}
    for record in trace:
        if isinstance(record, t.Delivered):
            first.setdefault(record.watch, record)

    for record in trace:
        if not isinstance(record, t.Registered) or record.watch not in first:
            continue
        if not _following(trace, record.seq):
            continue

        event = first[record.watch]
        history = sum(seq < record.seq for seq in renewed) - 1
        if any(record.seq < seq < event.seq for seq in renewed):
            continue

        before = [
            write.revision
            for write in acknowledged
            if write.seq < record.seq and write.history == history and write.revision is not None
        ]

        if before and event.revision < max(before):
            yield (
                f"{record.watch} was registered when revision {max(before)} was acknowledged, and "
                f"begins with {event.revision}"
            )


def _following(trace: t.Trace, seq: int) -> bool:
    """Whether a session was open then."""
    sessions = [
        entry
        for entry in trace[:seq]
        if isinstance(entry, t.SessionOpened | t.SessionEnded) and entry.session
    ]
    return bool(sessions) and isinstance(sessions[-1], t.SessionOpened)
