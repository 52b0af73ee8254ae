"""From a URL to the store that is started for its scheme."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from datasync.errors import UsageError
from datasync.testing.chaos.store import Store

__all__ = ["SCHEMES", "store_for"]


def _memory() -> Store:
    from datasync.testing.chaos.memory import MemoryStore

    return MemoryStore()


def _sqlite() -> Store:
    from datasync.testing.chaos.sqlite import SqliteStore

    return SqliteStore()


def _etcd(scheme: str) -> Store:
    from datasync.testing.chaos.etcd import EtcdStore  # with the extra [etcd]

    return EtcdStore(scheme)


def _redis(scheme: str) -> Store:
    from datasync.testing.chaos.redis import RedisStore  # with the extra [redis]

    return RedisStore(scheme)


def _kafka(scheme: str) -> Store:
    from datasync.testing.chaos.kafka import KafkaStore  # with the extra [kafka]

    return KafkaStore(scheme)


def _served(scheme: str) -> Store:
    from datasync.testing.chaos.served import ServedStore

    return ServedStore(scheme)


SCHEMES: dict[str, Callable[[], Store]] = {
    "memory": _memory,
    "sqlite": _sqlite,
} | {
    name: partial(make, name)
    for make, names in {
        _etcd: ("etcd", "etcds"),
        _redis: ("redis", "rediss"),
        _kafka: ("kafka", "kafkas"),
        _served: ("http", "https", "grpc+watch", "grpcs+watch"),
    }.items()
    for name in names
}


def store_for(url: str) -> Store:
    """A store for the scheme of `url`, all else of which is made up for it.
    Raises `UsageError`, `Missing`."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise UsageError(
            f"there is no chaos for {url!r}; name one of: "
            + ", ".join(f"{name}://" for name in SCHEMES)
        )
    return SCHEMES[scheme]()
