"""The leases that writes of this source were granted, so that each ends with the last
of its keys, not with its time.

A lease serves one transaction and is never used again, so once all its keys were written or deleted
since, nothing hangs on it. Keys whose write was of unknown outcome are not noted: it may still
come, and their leases end by themselves.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Mapping

from datasync.scopes import is_prefix

__all__ = ["Leases"]


class Leases:
    """Which keys hang on which leases, as far as is known here; forgotten
    when their time is over."""

    def __init__(self) -> None:
        # of each lease, with the revision that attached them
        self._keys: dict[int, dict[str, int]] = {}
        self._leases: dict[str, set[int]] = {}  # of each key
        self._ends: list[tuple[float, int]] = []

    def written(
        self,
        revision: int,
        attached: Mapping[str, int],
        ttls: Mapping[int, int],
        gone: Iterable[str],
    ) -> list[int]:
        """Note what a transaction did; returns the leases on which nothing hangs any more.

        attached: the keys that it put on a lease, with that lease.
        ttls: the seconds of each lease.
        gone: the keys that it put without one or deleted, and the prefixes that it deleted.
        """
        self._forget(time.monotonic())
        if not attached and not self._leases:
            return []

        touched = set(attached)
        for name in gone:
            touched.update(
                (key for key in self._leases if key.startswith(name))
                if is_prefix(name)
                else (name,)
            )
        for lease, seconds in ttls.items():
            self._keys[lease] = {}
            heapq.heappush(self._ends, (time.monotonic() + seconds, lease))
        for key, lease in attached.items():
            self._keys[lease][key] = revision
            self._leases.setdefault(key, set()).add(lease)

        freed: list[int] = []
        for key in touched & self._leases.keys():
            newest = max(revision, *(self._keys[lease][key] for lease in self._leases[key]))
            for lease in [lease for lease in self._leases[key] if self._keys[lease][key] < newest]:
                self._detach(key, lease)
                if not self._keys[lease]:
                    del self._keys[lease]
                    freed.append(lease)
        return freed

    def _detach(self, key: str, lease: int) -> None:
        del self._keys[lease][key]
        self._leases[key].discard(lease)
        if not self._leases[key]:
            del self._leases[key]

    def _forget(self, now: float) -> None:
        while self._ends and self._ends[0][0] < now:
            _, lease = heapq.heappop(self._ends)
            for key in list(self._keys.get(lease, ())):
                self._detach(key, lease)
            self._keys.pop(lease, None)
