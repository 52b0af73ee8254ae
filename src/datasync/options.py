"""The defaults and the few tunables of the engine, in seconds unless said otherwise."""

from __future__ import annotations

import random

import msgspec

__all__ = ["DEFAULT_NOTIF_TIMEOUT", "Backoff", "Options"]

DEFAULT_NOTIF_TIMEOUT = 2.0
"""How long a handler may take to report on a CHANGE before it is overdue (Go: DefaultNotifTimeout)."""


class Backoff(msgspec.Struct, frozen=True):
    """Waits that grow by `factor` from `initial` to `maximum`, each shortened by up to `jitter` (a fraction)."""

    initial: float = 0.1
    maximum: float = 10.0
    factor: float = 2.0
    jitter: float = 0.25

    def delay(self, attempt: int, rng: random.Random) -> float:
        """The wait before try number `attempt` + 1 (attempts count from 1)."""
        grown = min(self.maximum, self.initial * self.factor ** min(attempt - 1, 60))
        return grown * (1.0 - self.jitter * rng.random())


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How one DataSync behaves; the arguments of `DataSync` of the same names."""

    codec: str = "json"
    recovery: str = "auto"
    ack_timeout: float = DEFAULT_NOTIF_TIMEOUT
    resync_timeout: float = 30.0
    backlog: int = 1024
    retries: int = 5
    retry: Backoff = Backoff()
    reconnect: Backoff = Backoff()
    stable_after: float = 10.0
    connect_timeout: float = 10.0
    ping_interval: float = 3.0
    ping_timeout: float = 3.0
    close_timeout: float = 5.0
