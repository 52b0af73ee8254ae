"""What the log says of a watch: that its handler could not apply an event, and when it could.

Trouble is logged the first time, with its traceback where there is one, and then at growing
intervals: the second, fourth, eighth time, and so on. Each record has the name of the watch as its
attribute `watch`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from datasync.events import Event, ResyncEvent
from datasync.outcome import KeyOutcome, Verdict
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
        told = error if times == 1 else None
        text = f"{_shown(event)} failed (try {times}): {in_one_line(error)}"
        _say(logging.WARNING, sub, text, told)


def refused(sub: Subscriber, event: Event[Any] | None, outcomes: Mapping[str, KeyOutcome]) -> None:
    """It has refused these keys of `event` (None: later), or failed at them, and
    `Trouble.refusals` times in a row by now.
    """
    if not _is_told(sub.trouble.refusals):
        return
    text = "reported later" if event is None else _shown(event)
    for verdict in (Verdict.REFUSED, Verdict.FAILED):
        reasons = {key: said.reason for key, said in outcomes.items() if said.verdict is verdict}
        if reasons:
            named = "; ".join(f"{key}: {reasons[key]}" for key in sorted(reasons)[:_NAMED])
            more = f"; and {len(reasons) - _NAMED:,} more" if len(reasons) > _NAMED else ""
            text += f", {verdict.value}: {named}{more}"
    _say(logging.WARNING, sub, text)


def accepted(sub: Subscriber) -> None:
    """It was in trouble, and nothing of it is left."""
    _say(logging.INFO, sub, "applied all of it again")


def overdue(sub: Subscriber) -> None:
    """Nobody waits for it any longer: its time is over, or nobody reads its stream."""
    spec, out = sub.spec, sub.outstanding
    if out is not None and sub.is_out:
        seconds = spec.resync_timeout if isinstance(out.event, ResyncEvent) else spec.ack_timeout
        text = f"no report within {seconds:g} s; nobody waits for it any longer"
        _say(logging.WARNING, sub, f"{_shown(out.event)}, {text}")
    elif not sub.runner.is_stream:
        text = f"its handler has reported, and has not returned within {spec.ack_timeout:g} s"
        _say(logging.WARNING, sub, text)


def reported_late(sub: Subscriber) -> None:
    """It was overdue, and has reported."""
    _say(logging.INFO, sub, "reported, late")


def _say(level: int, sub: Subscriber, text: str, error: BaseException | None = None) -> None:
    log.log(level, "%s: %s", sub.name, text, exc_info=error, extra={"watch": sub.name})


def _is_told(times: int) -> bool:
    """Whether the trouble is logged this time: at 1, 2, 4, 8 ..."""
    return times & (times - 1) == 0


def _shown(event: Event[Any]) -> str:
    kind = "RESYNC" if isinstance(event, ResyncEvent) else "CHANGE"
    return f"{kind} at revision {event.revision}" if event.revision else kind
