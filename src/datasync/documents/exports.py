"""What other programs print when they are asked for all keys: `etcdctl get -w json` and
`consul kv export`. What may be any bytes stands there in base64."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from datasync.codec.shared import UNDECODABLE
from datasync.documents.entries import BadFile, Entry

__all__ = ["exported"]

T = TypeVar("T")

_ETCD = re.compile(rb'\s*\{\s*"header"\s*:\s*\{[^{}]*"cluster_id"')
_LIST = re.compile(rb"\s*\[")


class _EtcdPair(msgspec.Struct):
    key: bytes = b""  # etcdctl leaves out what is empty
    value: bytes = b""


class _EtcdAnswer(msgspec.Struct):
    kvs: list[_EtcdPair] = []


class _ConsulPair(msgspec.Struct):
    key: str
    flags: int
    value: bytes


_etcd_answer = msgspec.json.Decoder(_EtcdAnswer)
_consul_pairs = msgspec.json.Decoder(list[_ConsulPair])


def exported(name: str, data: bytes, line: int = 1) -> Iterator[Entry] | None:
    """The entries of an export; None for a document that is none.

    name: how errors call it.
    line: in which line of the file it begins (default 1), which stands for the place of all that
        is in it.

    Raises `BadFile` for an export with a mistake, and for any other list.
    """
    if _ETCD.match(data):
        answer = _decoded(_etcd_answer, data, name, line, "what `etcdctl get -w json` prints")
        return _entries(name, line, ((pair.key, pair.value) for pair in answer.kvs))
    if _LIST.match(data):
        expected = "a mapping of keys to values, or what `consul kv export` prints"
        pairs = _decoded(_consul_pairs, data, name, line, expected)
        return (Entry(pair.key, pair.value, line, 1) for pair in pairs)
    return None


def _decoded(
    decoder: msgspec.json.Decoder[T], data: bytes, name: str, line: int, expected: str
) -> T:
    try:
        return decoder.decode(data)
    except UNDECODABLE as error:
        raise BadFile(name, line, 1, f"expected {expected} ({error})") from None


def _entries(name: str, line: int, pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[Entry]:
    for key, value in pairs:
        try:
            yield Entry(key.decode(), value, line, 1)
        except UnicodeDecodeError:
            raise BadFile(name, line, 1, f"the key {key!r} is not UTF-8") from None
