"""Keys of a store that datasync cannot show: they are left alone, and reported once each."""

from __future__ import annotations

import logging

__all__ = ["LeftAlone"]

_MOST = 100


class LeftAlone:
    """What was reported so far: at most 100 keys, so that neither the log nor this set grows without bound."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._reported: set[bytes] = set()

    @property
    def full(self) -> bool:
        """Whether nothing more will be reported."""
        return len(self._reported) >= _MOST

    def report(self, key: bytes, store: str, why: str) -> None:
        """Say once that the key is left alone; `why` says why, and the way out."""
        if key not in self._reported and not self.full:
            self._reported.add(key)
            self._log.warning("the %s key %r is left alone: %s", store, key, why)
            if self.full:
                self._log.warning("%d keys are left alone: no more of them will be reported", _MOST)

    def text_of(self, key: bytes, store: str) -> str | None:
        """The key as text, or None where it is none."""
        try:
            return key.decode()
        except UnicodeDecodeError:
            self.report(key, store, "it is not UTF-8; rename it to have it watched")
            return None
