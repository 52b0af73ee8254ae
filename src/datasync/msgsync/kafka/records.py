"""From the bytes of a fetch to records: what was aborted and Kafka's own markers left out."""

from __future__ import annotations

import itertools
import struct
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from cramjam import DecompressionError

from datasync.connecting import too_large
from datasync.endpoints import MAX_ANSWER
from datasync.errors import BadStore, Disconnected
from datasync.msgsync.kafka.internals import (
    MemoryRecords,
    decode_varint,
    gzip_decode,
    lz4_decode,
    snappy_decode,
    zstd_decode,
)
from datasync.msgsync.kafka.packed import fits
from datasync.ordered import OrderedKeys
from datasync.source import Item, Scopes

__all__ = ["Group", "Records", "Report", "State", "apply", "extent", "groups", "text_of"]

Records = list[tuple[int, bytes | None, bytes | None]]
"""Offset, key and value of each, in order."""
Group = tuple[int | None, Records]
"""(revision, records): of a plain batch each record has its offset for a revision, and the first is
None; of the records of a transaction that lie together all have the offset of the last one."""

Report = Callable[[bytes | None], None]
"""Hears of keys that are missing, empty or no text; such records are skipped."""


class State(dict[str, Item]):
    """What there is by key. `skipped`: keys that are empty or no text, and have a value."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped: set[bytes] = set()
        self.order = OrderedKeys()

    def clear(self) -> None:
        """Forget all of it."""
        super().clear()
        self.skipped.clear()
        self.order.forget()

    def has(self, key: bytes) -> bool:
        """Whether it has a value, text or not."""
        try:
            return key in self.skipped or key.decode() in self
        except UnicodeDecodeError:
            return False

    def under(self, prefix: str) -> list[str]:
        """The keys that start with it, in order."""
        return self.order.under(prefix, self)

    def deleted_by(self, prefixes: Sequence[str]) -> list[list[bytes]]:
        """The keys that each of them deletes of what those before it have left;
        those that are skipped, too."""
        keys: list[bytes] = []
        skipped = sorted(self.skipped)
        for prefix in Scopes(prefixes).minimal():
            start = prefix.encode()
            keys += map(str.encode, self.under(prefix))
            rest = itertools.islice(skipped, bisect_left(skipped, start), None)
            keys += itertools.takewhile(lambda key, start=start: key.startswith(start), rest)  # type: ignore[misc]

        # in order each is inside of those that are open; of these the first one in the
        # order of the call deletes it
        deleted: list[list[bytes]] = [[] for _ in prefixes]
        indexed = [*((prefix.encode(), index) for index, prefix in enumerate(prefixes))]
        opened: list[tuple[bytes, int]] = []
        for name, index in sorted([*indexed, *((key, len(prefixes)) for key in keys)]):
            while opened and not name.startswith(opened[-1][0]):
                opened.pop()
            first = min(index, opened[-1][1]) if opened else index
            if index < len(prefixes):
                opened.append((name, first))
            else:
                deleted[first].append(name)
        return deleted


# base offset, length, leader epoch, magic, checksum, attributes, last offset delta
_HEADER = struct.Struct(">qiibIhi")
_BEFORE_LENGTH = 12
_MAGIC = 2
_COUNT = struct.Struct(">57xi")  # of the records, after all other fields
_UNPACK = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}
_CONTROL = struct.Struct(">hh")
_ABORT = 0


def extent(raw: bytes, stop: int | None) -> tuple[int, int]:
    """(the offset after the last whole batch before `stop`, the leader epoch of
    that batch); (-1, -1) for none."""
    at, size, behind, epoch = 0, len(raw), -1, -1
    while at + _HEADER.size <= size:
        base, length, its_epoch, _, _, _, delta = _HEADER.unpack_from(raw, at)
        at += _BEFORE_LENGTH + length
        if at > size or (stop is not None and base >= stop):
            break
        behind, epoch = base + delta + 1, its_epoch
    return behind, epoch


def groups(
    raw: bytes,
    start: int,
    stop: int | None,
    aborted: Sequence[tuple[int, int]],
    where: str,
    most: int = MAX_ANSWER,
) -> Iterator[Group]:
    """The committed records from offset `start` on, up to the first batch at or after `stop`.

    aborted: producers, each with the first offset of a transaction that it aborted.
    most: bytes of a batch, unpacked.

    Raises `Disconnected` for a wrong checksum, `AnswerTooLarge`, `BadStore` for what cannot be
    unpacked.
    """
    left = sorted(aborted, key=lambda pair: pair[1], reverse=True)
    dropped: set[int] = set()
    together: Records = []
    writer: tuple[int, int] | None = None
    last = at = 0
    batches: Any = MemoryRecords(raw)

    while batches.has_next():
        batch = batches.next_batch()
        _, length, _, magic, *_ = _HEADER.unpack_from(raw, at)
        if magic != _MAGIC:
            raise BadStore(
                f"{where} has messages in the format of Kafka before 0.11; copy them to a new topic"
            )
        its_bytes, at = (
            memoryview(raw)[at : at + _BEFORE_LENGTH + length],
            at + _BEFORE_LENGTH + length,
        )

        base, producer = batch.base_offset, batch.producer_id
        if stop is not None and base >= stop:
            break
        if not batch.validate_crc():
            raise Disconnected(f"{where}: a batch came with a wrong checksum")

        while left and left[-1][1] <= base:
            dropped.add(left.pop()[0])

        if together and (batch.is_control_batch or writer != (producer, batch.producer_epoch)):
            yield last, together
            together = []

        if batch.is_control_batch:
            if producer in dropped and any(
                _CONTROL.unpack_from(marker.key)[1] == _ABORT for marker in batch
            ):
                dropped.discard(producer)
            continue
        if batch.is_transactional and producer in dropped:
            continue

        if not fits(its_bytes, most):
            raise too_large(where, most)
        try:
            records = [(record.offset, record.key, record.value) for record in batch]
        except UnicodeDecodeError:
            records = _past_headers(its_bytes)
        except UnsupportedCodecError as error:
            raise BadStore(
                f"{where}: {error}; install it with: pip install 'datasync[kafka]'"
            ) from None
        except (CorruptRecordException, OSError, EOFError, zlib.error, DecompressionError) as error:
            raise BadStore(f"{where}: a batch cannot be read: {error}") from None

        if base < start:
            records = [record for record in records if record[0] >= start]
        if not batch.is_transactional:
            yield None, records
            continue
        writer, last = (producer, batch.producer_epoch), batch.next_offset - 1
        together += records
    if together:
        yield last, together


def _past_headers(batch: memoryview) -> Records:
    """The records of a batch, whatever bytes are the names of their headers,
    which the client takes for text."""
    base, _, _, _, _, attributes, _ = _HEADER.unpack_from(batch)
    (count,) = _COUNT.unpack_from(batch)
    unpack, data, at = _UNPACK.get(attributes & 7), bytes(batch[_COUNT.size :]), 0
    if unpack is not None:
        data = unpack(data)
    records: Records = []
    for _ in range(count):
        length, at = decode_varint(data, at)
        end = at + length
        _, at = decode_varint(data, at + 1)  # the time, after a byte of attributes
        delta, at = decode_varint(data, at)
        found: list[bytes | None] = []
        for _ in ("key", "value"):
            size, at = decode_varint(data, at)
            found.append(data[at : at + size] if size >= 0 else None)
            at += max(size, 0)
        records.append((base + delta, *found))
        at = end
    return records


def text_of(key: bytes | None, report: Report) -> str | None:
    """The key as text; None, and a report, where it is none, or empty."""
    if key:
        try:
            return key.decode()
        except UnicodeDecodeError:
            pass
    report(key)
    return None


def apply(state: State, found: Iterable[Group], wanted: Scopes | None, report: Report) -> None:
    """Bring the state up to date; of other keys than `wanted` nothing is kept."""
    touched = state.order.touched
    for revision, records in found:
        for offset, raw_key, value in records:
            try:
                key = raw_key.decode()  # type: ignore[union-attr] # of a missing key text_of tells
            except (UnicodeDecodeError, AttributeError):
                key = ""

            if not key:
                text_of(raw_key, report)
                if raw_key is not None:
                    (state.skipped.discard if value is None else state.skipped.add)(raw_key)
                continue

            if wanted is not None and key not in wanted:
                continue

            if touched is not None and (key in state) is (value is None):
                touched.append(key)
            if value is None:
                state.pop(key, None)
            else:
                state[key] = (key, value, offset if revision is None else revision)

    if touched:
        state.order.trim()
