"""Strides: pages that bring each key once, and let the server count about what it sends."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasync.kvdbsync.etcd.keys import OPEN_END, Range, range_of
from datasync.kvdbsync.etcd.pb import etcd_pb2 as pb
from datasync.kvdbsync.etcd.stride import Stride

Read = Callable[[Range, int], pb.RangeResponse]


def server(keys: Sequence[bytes]) -> Read:
    """Answers as etcd does: at most `limit` keys, and how many the range holds."""

    def read(asked: Range, limit: int) -> pb.RangeResponse:
        first = bisect_left(keys, asked.key)
        last = len(keys) if asked.end == OPEN_END else bisect_left(keys, asked.end)
        if not asked.end:
            last = first + (keys[first : first + 1] == [asked.key])
        found = [pb.KeyValue(key=key) for key in keys[first : min(last, first + limit)]]
        return pb.RangeResponse(kvs=found, count=last - first, more=last - first > limit)

    return read


def walk(keys: Sequence[bytes], range_: Range, limit: int) -> tuple[list[bytes], int, int]:
    """The keys that come, the requests, and how many keys the server has counted for them."""
    read, found, requests, counted = server(keys), list[bytes](), 0, 0
    left: Stride | None = Stride(*range_)
    while left is not None:
        page = read(left.asked, limit)
        requests, counted = requests + 1, counted + page.count
        found += [kv.key for kv in page.kvs]
        left = left.behind(page, limit)
    return found, requests, counted


KEYS = st.lists(
    st.binary(min_size=1, max_size=4).map(lambda key: bytes([255 - key[0] % 3]) + key)
    | st.text("ab/\xff", min_size=1, max_size=9).map(str.encode)
    | st.binary(min_size=1, max_size=6),
    unique=True,
    max_size=200,
)


@given(KEYS, st.sampled_from(["", "a/", "ab/", "\xff/", "a", "/"]), st.integers(1, 9))
def test_each_key_comes_once_and_in_order(keys: list[bytes], scope: str, limit: int) -> None:
    keys.sort()
    range_ = range_of(scope)
    expected = [key for key in keys if key.startswith(scope.encode())]
    if not scope.endswith("/") and scope:
        expected = [key for key in keys if key == scope.encode()]
    found, _, _ = walk(keys, range_, limit)
    assert found == expected


@pytest.mark.parametrize(
    "keys",
    [
        [b"a/%06d" % n for n in range(100_000)],
        [b"a/%d" % n for n in range(100_000)],
        [b"a/%04d/interface/eth%d/mtu" % (n // 10, n % 10) for n in range(100_000)],
        [b"a/%02d/%s/%04d" % (n // 2000, b"x" * 60, n) for n in range(100_000)],
        [b"a/%064x" % (n * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**256) for n in range(100_000)],
        [b"a/%d" % n for n in range(50)] + [b"b/%06d" % n for n in range(90_000)],
        [b"a/%s" % (b"x" * n) for n in range(2_000)],
    ],
    ids=["padded", "numbers", "hosts", "long", "hashes", "beside", "chain"],
)
@pytest.mark.parametrize("limit", [1_000, 10_000])
def test_the_server_counts_about_what_it_sends(keys: list[bytes], limit: int) -> None:
    keys.sort()
    found, requests, counted = walk(keys, range_of(""), limit)
    assert found == keys
    # the first page counts all; by one range for all pages it would be up to fifty times as many
    assert counted <= 12 * len(keys)
    assert requests <= 3 * len(keys) / limit + 12
