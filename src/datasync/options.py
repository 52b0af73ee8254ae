"""The defaults and the few tunables of the engine, in seconds unless said otherwise."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypedDict

import msgspec

from datasync.errors import UsageError

__all__ = ["DEFAULT_NOTIF_TIMEOUT", "Backoff", "Options", "WatchOptions", "check_seconds"]

DEFAULT_NOTIF_TIMEOUT = 2.0
"""How long a handler may take to report on a CHANGE before it is overdue (Go:
DefaultNotifTimeout).
"""


def check_seconds(option: str, given: object) -> None:
    """Raise `UsageError` unless what an option is given is a positive number of seconds."""
    if not (isinstance(given, int | float) and given > 0):
        raise UsageError(f"{option} must be a positive number of seconds, got {given!r}")


class Backoff(msgspec.Struct, frozen=True):
    """Waits that grow from one to the next.

    initial: seconds of the first one; default 0.1.
    maximum: seconds of the longest; default 10.
    factor: how many times as long as the one before each of them is; default 2.
    jitter: the share of itself, at most, by which each is shortened at random; default 0.25.

    Raises `UsageError` for what is not such a series.
    """

    initial: float = 0.1
    maximum: float = 10.0
    factor: float = 2.0
    jitter: float = 0.25

    def __post_init__(self) -> None:
        check_seconds("initial", self.initial)
        check_seconds("maximum", self.maximum)
        for name, least, most in (("factor", 1, float("inf")), ("jitter", 0, 1)):
            given = getattr(self, name)
            if not isinstance(given, int | float) or not least <= given <= most:
                raise UsageError(f"{name} must be a number from {least} to {most}, got {given!r}")

    def delay(self, attempt: int, rng: random.Random) -> float:
        """The wait before try number `attempt` + 1 (attempts count from 1)."""
        grown = min(self.maximum, self.initial * self.factor ** min(attempt - 1, 60))
        return grown * (1.0 - self.jitter * rng.random())


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How one DataSync behaves; the arguments of `DataSync` of the same names.

    Raises `UsageError` for what makes no sense.
    """

    codec: str = "json"
    recovery: str = "auto"
    ack_timeout: float = DEFAULT_NOTIF_TIMEOUT
    resync_timeout: float = 30.0
    backlog: int = 1024
    retries: int = 5
    retry: Backoff = Backoff()
    reconnect: Backoff = Backoff()
    connect_timeout: float = 10.0
    ping_interval: float = 3.0
    ping_timeout: float = 3.0
    close_timeout: float = 5.0

    def __post_init__(self) -> None:
        if self.codec not in ("json", "proto"):
            raise UsageError(f"codec={self.codec!r} is unknown; use 'json' or 'proto'")
        if self.recovery not in ("auto", "resync"):
            raise UsageError(f"recovery={self.recovery!r} is unknown; use 'auto' or 'resync'")
        for name in _SECONDS:
            check_seconds(name, getattr(self, name))
        for name in _COUNTS:
            given = getattr(self, name)
            if not isinstance(given, int) or given < 1:
                raise UsageError(f"{name} must be an integer >= 1, got {given!r}")
        for name in _BACKOFFS:
            given = getattr(self, name)
            if not isinstance(given, Backoff):
                raise UsageError(
                    f"{name} must be a Backoff, for example Backoff(maximum=5), got {given!r}"
                )

    def of_watch(self, given: WatchOptions) -> Options:
        """These, but for the limits that were given for one watch. Raises `UsageError`."""
        limits = {name: limit for name in _LIMITS if (limit := given.get(name)) is not None}
        # made again, not replaced: older versions of msgspec check only what is made
        return Options(**{**msgspec.structs.asdict(self), **limits}) if limits else self


class WatchOptions(TypedDict, total=False):
    """What may be said of one watch; see `DataSync.watch`."""

    keys: Sequence[str]
    after: Sequence[str]
    backlog: int | None
    ack_timeout: float | None
    resync_timeout: float | None
    retries: int | None
    retry: Backoff | None


_SECONDS = (
    "ack_timeout",
    "resync_timeout",
    "connect_timeout",
    "ping_interval",
    "ping_timeout",
    "close_timeout",
)
_COUNTS = "backlog", "retries"
_BACKOFFS = "retry", "reconnect"
_LIMITS = "backlog", "ack_timeout", "resync_timeout", "retries", "retry"
