"""Keys and ranges as etcd has them: bytes, half-open, an empty end for a single key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb
from datasync.scopes import is_prefix
from datasync.skipped_keys import SkippedKeys
from datasync.source import Item
from datasync.texts import logger

__all__ = ["OPEN_END", "Range", "cover", "end_of", "items_of", "range_of", "text_of"]

_FIRST = b"\0"
OPEN_END = b"\0"
"""As a range end: no end."""


class Range(NamedTuple):
    """The keys from `key` up to, not including, `end`; b"\\0" has no end, b"" means `key` alone."""

    key: bytes
    end: bytes


def range_of(scope: str) -> Range:
    """The keys of one scope: all below a prefix, or a single key."""
    start = scope.encode()
    if not is_prefix(scope):
        return Range(start, b"")
    return Range(start or _FIRST, end_of(start))


def end_of(prefix: bytes) -> bytes:
    """The first key after all that start with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else OPEN_END


def cover(scopes: Sequence[str]) -> Range:
    """The least range that holds all scopes: order and atomicity hold only within one watch."""
    if len(scopes) == 1:
        return range_of(scopes[0])
    ranges = [range_of(scope) for scope in scopes]
    ends = [end or key + b"\0" for key, end in ranges]
    return Range(min(key for key, _ in ranges), OPEN_END if OPEN_END in ends else max(ends))


_skipped = SkippedKeys(logger("datasync.etcd"))


def text_of(key: bytes) -> str | None:
    """The key as text, or None where it is none."""
    return _skipped.text_of(key, "etcd")


def items_of(kvs: Iterable[pb.KeyValue]) -> list[Item]:
    """(key, value, revision) of what a Range found."""
    try:
        return [(kv.key.decode(), kv.value, kv.mod_revision) for kv in kvs]
    except UnicodeDecodeError:
        return [
            (key, kv.value, kv.mod_revision) for kv in kvs if (key := text_of(kv.key)) is not None
        ]
