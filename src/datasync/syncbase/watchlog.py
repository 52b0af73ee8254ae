"""What the log says of a watch: that its handler could not apply an event, and when it could.

A trouble is told the first time, with its traceback where there is one, and then at growing
distances: at the second, fourth, eighth time, and so on. Each record has the name of the watch as
its attribute `watch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasync.events import Event, ResyncEvent
from datasync.syncbase.subscriber import Subscriber
from datasync.texts import in_one_line, logger

__all__ = ["accepted", "failed", "overdue", "refused", "reported_late"]

log = logger("datasync.watch")

_NAMED = 5
"""Refused keys that a line names, at most."""


def failed(sub: Subscriber, event: Event[Any], error: BaseException) -> None:
    """It was given `event`, and has failed `Trouble.failures` times in a row by now."""
    times = sub.trouble.failures
    if _is_told(times):
        log.warning(
            "%s: %s failed (try %d): %s",
            sub.name,
            _shown(event),
            times,
            in_one_line(error),
            exc_info=error if times == 1 else None,
            extra={"watch": sub.name},
        )


def refused(sub: Subscriber, event: Event[Any], reasons: Mapping[str, str]) -> None:
    """It has left these keys of `event`, and of `Trouble.refusals` events in a row by now."""
    if _is_told(sub.trouble.refusals):
        named = "; ".join(f"{key}: {reasons[key]}" for key in sorted(reasons)[:_NAMED])
        more = f"; and {len(reasons) - _NAMED:,} more" if len(reasons) > _NAMED else ""
        log.warning(
            "%s: %s, refused: %s%s",
            sub.name,
            _shown(event),
            named,
            more,
            extra={"watch": sub.name},
        )


def accepted(sub: Subscriber) -> None:
    """It was in trouble, and nothing of it is left."""
    log.info("%s: applied all of it again", sub.name, extra={"watch": sub.name})


def overdue(sub: Subscriber) -> None:
    """Nobody waits for it any longer: its time is over, or nobody reads its stream."""
    spec, out = sub.spec, sub.outstanding
    if out is not None and sub.is_out:
        seconds = spec.resync_timeout if isinstance(out.event, ResyncEvent) else spec.ack_timeout
        log.warning(
            "%s: %s, no report within %g s; nobody waits for it any longer",
            sub.name,
            _shown(out.event),
            seconds,
            extra={"watch": sub.name},
        )
    elif not sub.runner.is_stream:
        log.warning(
            "%s: its handler has reported, and has not returned within %g s",
            sub.name,
            spec.ack_timeout,
            extra={"watch": sub.name},
        )


def reported_late(sub: Subscriber) -> None:
    """It was overdue, and has reported."""
    log.info("%s: reported, late", sub.name, extra={"watch": sub.name})


def _is_told(times: int) -> bool:
    """Whether the trouble is told this time: at 1, 2, 4, 8 ..."""
    return times & (times - 1) == 0


def _shown(event: Event[Any]) -> str:
    kind = "RESYNC" if isinstance(event, ResyncEvent) else "CHANGE"
    return f"{kind} at revision {event.revision}" if event.revision else kind
