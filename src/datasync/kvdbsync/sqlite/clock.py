"""The clock of a store, by which its TTLs end: the wall clock at first, but one that never jumps.

It counts with the clock of the machine that runs from its start on, in sleep too, and which nobody
sets. What to add to that is kept in the store, for all processes and until the machine is started
again. From then on the wall clock tells how long it was down; what it was off against the store's
clock before is kept for that.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from typing import NamedTuple

from datasync.kvdbsync.sqlite.driver import Connection, NotText

__all__ = ["Clock", "shift"]

_JUMP = 0.5
"""Seconds by which the wall clock must be off before that is written down.
Small ones are the work of NTP."""
_FOREVER = 1e11
"""Seconds: some three thousand years."""
_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)
_ROW = "SELECT value FROM {schema}.meta WHERE name = 'clock'"


class Anchor(NamedTuple):
    """`offset`: of the store's clock against that of the machine, in the run
    `boot`; `drift`: against the wall."""

    boot: str
    offset: float
    drift: float

    @classmethod
    def of(cls, connection: Connection, schema: str = "main") -> Anchor | None:
        """What a store keeps; None where it keeps nothing (yet)."""
        with contextlib.suppress(ValueError, IndexError, AttributeError, TypeError, NotText):
            boot, *numbers = connection.all(_ROW.format(schema=schema))[0][0].split(" ")
            offset, drift = map(float, numbers)
            if abs(offset) < _FOREVER and abs(drift) < _FOREVER:  # and a number at all
                return cls(boot, offset, drift)
        return None


class Clock:
    """The clock of one store. `anchor` it before it is asked."""

    def __init__(self) -> None:
        self._anchor: Anchor | None = None

    def now(self) -> float:
        """The time of the store, in seconds."""
        return _running() + (0.0 if self._anchor is None else self._anchor.offset)

    def goes(self, connection: Connection) -> bool:
        """Whether it goes right; else `anchor` it."""
        if self._anchor is None:
            kept = Anchor.of(connection)
            if kept is None or kept.boot != _boot():
                return False
            self._anchor = kept
        return True

    def is_set(self, connection: Connection) -> bool:
        """Whether it goes right, and the store knows all that others must
        know of it; else `anchor` it."""
        return (
            self.goes(connection)
            and self._anchor is not None
            and abs(self.now() - time.time() - self._anchor.drift) <= _JUMP
        )

    def anchor(self, connection: Connection) -> None:
        """Set it, and write that down in the transaction that is open."""
        kept = self._anchor or Anchor.of(connection)
        running, wall = _running(), time.time()
        if kept is None:
            anchor = Anchor(_boot(), wall - running, 0.0)
        elif kept.boot == _boot():
            # the wall clock was set: ours goes on
            anchor = Anchor(kept.boot, kept.offset, running + kept.offset - wall)
        else:
            anchor = Anchor(_boot(), wall + kept.drift - running, kept.drift)
        line = f"{anchor.boot} {anchor.offset!r} {anchor.drift!r}"
        connection.run("REPLACE INTO main.meta VALUES('clock', ?)", (line,))
        self._anchor = anchor


def shift(connection: Connection) -> float:
    """What the clock of the store is ahead of that of the store attached as `backup`."""
    ours, theirs = Anchor.of(connection), Anchor.of(connection, "backup")
    if ours is None:
        ours = Anchor(_boot(), time.time() - _running(), 0.0)
    if theirs is None:
        return ours.drift
    return ours.offset - theirs.offset if ours.boot == theirs.boot else ours.drift - theirs.drift


def _running() -> float:
    """Seconds since some moment that is the same for all processes, until
    the machine is started again."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


@functools.cache
def _boot() -> str:
    """What names this run of the machine, as this process counts its time;
    without Linux, of this process."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/time')}"
    except OSError:
        return f"process/{os.getpid()}/{time.monotonic_ns()}"
