"""Making the event of a RESYNC: its values fixed now,
its changes worked out when somebody reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from datasync.errors import DecodeError
from datasync.events import Change, Decode, Record, Report, ResyncEvent, Values

__all__ = ["leave_out", "make_resync"]

Items = Sequence[tuple[str, Record]]


def make_resync(
    scopes: Mapping[str, Items],
    before: Mapping[str, Record | None] | None,
    decode: Decode[Any],
    *,
    reason: str,
    revision: int,
    source: str,
    attempt: int,
    report: Report | None,
    ticket: Any,
) -> ResyncEvent[Any]:
    """A RESYNC of `scopes`. `before` maps the keys that it changes to what the watch accepted last.

    With `before` None the watch has accepted nothing at all: every key is a change.
    """

    def changes() -> list[Change[Any]]:
        now: dict[str, Record] = {}
        for items in scopes.values():
            now.update(items)
        if before is None:
            return [
                Change(key, record.revision, record, None, decode) for key, record in now.items()
            ]
        found = []
        for key, old in before.items():
            new = now.get(key)
            found.append(Change(key, revision if new is None else new.revision, new, old, decode))
        return found

    # G7: whatever a handler does to the event changes neither what the engine goes by nor what is
    # delivered again
    values = MappingProxyType({scope: Values(items, decode) for scope, items in scopes.items()})
    return ResyncEvent(
        values=values,
        reason=reason,
        revision=revision,
        source=source,
        attempt=attempt,
        _make_changes=changes,
        _report=report,
        _ticket=ticket,
    )


def leave_out(event: ResyncEvent[Any], bad: dict[str, DecodeError]) -> ResyncEvent[Any]:
    """The same RESYNC without the keys in `bad`, which it names as undecodable."""
    make = event._make_changes
    values = MappingProxyType({scope: found.without(bad) for scope, found in event.values.items()})
    return msgspec.structs.replace(
        event,
        values=values,
        undecodable=MappingProxyType(bad),
        _deferred=False,
        _make_changes=lambda: [change for change in make() if change.key not in bad],
        _changes=None,
    )
