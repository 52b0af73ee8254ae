"""What is known to be broken in which server, and what cannot be trusted there."""

from __future__ import annotations

import re

__all__ = ["advice", "progress_is_ordered"]

# by minor version: the first patch without the defect
_MENDED: dict[str, dict[tuple[int, int], int]] = {
    "may lose events after a compaction": {(3, 4): 31, (3, 5): 13},
    "may leave out a delete when a watch begins at the compacted revision": {
        (3, 4): 36,
        (3, 5): 18,
    },
    "may send a watch back in time when a member catches up by a snapshot": {(3, 4): 25, (3, 5): 8},
    "may change data inconsistently on a crash": {(3, 5): 3},
    "may send a watch what lies before the revision it asked for": {
        (3, 4): 38,
        (3, 5): 22,
        (3, 6): 2,
    },
}
_ORDERED = {(3, 4): 25, (3, 5): 8}
_OLDEST = (3, 4)


def progress_is_ordered(version: str) -> bool:
    """Whether a requested progress notification never overtakes an event."""
    release, patch = _parse(version)
    return release > max(_ORDERED) or patch >= _ORDERED.get(release, patch + 1)


def advice(version: str) -> str | None:
    """What to tell users of that version; None where no defect is known."""
    release, patch = _parse(version)
    if release < _OLDEST:
        return "it is older than 3.4: it lacks what watching needs; update it"
    broken = {
        what: fixed[release] for what, fixed in _MENDED.items() if patch < fixed.get(release, 0)
    }
    if not broken:
        return None
    mended = f"{release[0]}.{release[1]}.{max(broken.values())}"
    return f"it {'; it '.join(broken)}: update it to {mended} or later"


def _parse(version: str) -> tuple[tuple[int, int], int]:
    found = re.match(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})", version)
    return ((int(found[1]), int(found[2])), int(found[3])) if found else ((0, 0), 0)
