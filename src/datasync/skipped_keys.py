"""Keys of a store that datasync cannot name: they are skipped wherever the store is
read, and each is said once."""

from __future__ import annotations

import logging

__all__ = ["MARK", "SkippedKeys"]

MARK = "skipped_key"
"""The attribute of a log record that names a skipped key, as text."""

_MOST = 100
_LONGEST = 200
"""Bytes of a key that are shown; others may be as large as values."""


class SkippedKeys:
    """What was reported so far: at most 100 keys, so that neither the log nor
    this set grows without bound."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._reported: set[str] = set()

    @property
    def full(self) -> bool:
        """Whether nothing more will be reported."""
        return len(self._reported) >= _MOST

    def report(self, key: bytes, store: str, why: str) -> None:
        """Say once that the key is skipped; `why` says why, and the way out."""
        name = _name(key)
        if name in self._reported or self.full:
            return

        self._reported.add(name)
        self._log.warning("the %s key %s is skipped: %s", store, name, why, extra={MARK: name})
        if self.full:
            self._log.warning("%d keys are skipped: no more of them will be reported", _MOST)

    def text_of(self, key: bytes, store: str) -> str | None:
        """The key as text; None, and a report, where it is empty or not UTF-8."""
        try:
            text = key.decode()
        except UnicodeDecodeError:
            text, why = "", "not UTF-8"
        else:
            why = "empty"
        if not text:
            self.report(
                key, store, f"it is {why}; rename it, or delete it with: datasync del --raw"
            )
        return text or None


def _name(key: bytes) -> str:
    name = repr(key[:_LONGEST])
    return name if len(key) <= _LONGEST else f"{name} and {len(key) - _LONGEST:,} bytes more"
