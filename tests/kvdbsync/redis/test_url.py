"""URLs, scopes and slots; no server is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasync import BadUrl, open_url
from datasync.kvdbsync.redis.cluster import slot_of
from datasync.kvdbsync.redis.keys import pattern_of, scan_pattern, single_keys, tracked


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://h", "redis://h"),
        ("redis://h:1/", "redis://h:1"),
        ("redis://h/3", "redis://h/3"),
        ("redis://u:p%40ss@[::1]:4/0?timeout=0.5", "redis://u@[::1]:4/0"),
        ("redis://:secret@h", "redis://h"),
        ("rediss://h", "rediss://h"),
        (
            "redis+sentinel://a,b:2/name?sentinel_user=u&sentinel_password=secret",
            "redis+sentinel://a,b:2/name",
        ),
        ("redis+sentinel://a/name/2?tls=1", "redis+sentinel://a/name/2"),
        ("redis+cluster://a,b:2?tls=1", "redis+cluster://a,b:2"),
    ],
)
def test_good_urls(url: str, name: str) -> None:
    assert open_url(url).name == name


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://", "is not a host"),
        ("redis://h:port", "is not a host"),
        ("redis://h:0", "is not a host"),
        ("redis://h1,h2", "redis\\+sentinel://"),
        ("redis://h/config/", "prefix="),
        ("redis://h/1/2", "prefix="),
        ("redis://:secret@h?timeout=0", "timeout="),
        ("redis://h?tiemout=1", "tiemout"),
        ("redis://h?tls=1", "tls"),
        ("redis://h?ca=x", "rediss://"),
        ("redis+cluster://h?ca=x", "tls=1"),
        ("rediss://h?ca=/does/not/exist", "cannot be read"),
        ("rediss://h?ca=FILE", "PEM"),
        ("rediss://h?cert=FILE", "belong together"),
        ("redis+sentinel://h", "the name of the primary is missing"),
        ("redis+sentinel://h/name/x", "is not a database"),
        (f"redis://h/{'1' * 5000}", "is not a database"),
        ("redis+cluster://h/1", "one database"),
        ("redis+cluster://h?sentinel_user=u", "sentinel_user"),
    ],
)
def test_bad_urls(url: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("text")
    with pytest.raises(BadUrl, match=says) as caught:
        open_url(url.replace("FILE", str(file)))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_tracked_never_overlaps() -> None:
    assert tracked(["a/", "b/"]) == ["a/", "b/"]
    assert tracked(["a", "ab/", "b/"]) == ["a", "b/"]
    assert tracked([""]) == [""]
    assert tracked(["", "a"]) == [""]
    assert tracked([f"config/{number:03}" for number in range(100)]) == ["config/0"]


def test_what_is_scanned() -> None:
    assert pattern_of("a*b?[c]\\^/") == r"a\*b\?\[c\]\\\^/*"
    assert pattern_of("") == "*"
    assert scan_pattern(["config/a/", "config/b/", "x"]) == "config/*"
    assert scan_pattern(["x", "y"]) is None
    assert single_keys(["a/", "x", ""]) == [b"x"]


def test_slots() -> None:
    # from the specification of Redis Cluster
    assert slot_of("123456789") == 0x31C3
    assert (
        slot_of("{user1000}.following") == slot_of("{user1000}.followers") == slot_of(b"user1000")
    )
    assert slot_of("foo{}{bar}") != slot_of("bar")
    assert slot_of("foo{{bar}}zap") == slot_of("{bar")
    assert slot_of("foo{bar}{zap}") == slot_of("bar")
