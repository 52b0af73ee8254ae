"""Bad input at the front door: a typed error with the way out, before anything is done."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import pytest

from datasync import Backoff, DataSync, open_url
from datasync.errors import BadKey, BadPrefix, BadUrl, UsageError


@pytest.mark.parametrize(
    "url", ["etcd://[::1", "http://[", "nosuch://[::1", "memory://a\n", "sqlite:///a\x00.db"]
)
def test_urls(url: str) -> None:
    with pytest.raises(BadUrl, match=r"; write ") as raised:
        DataSync(url)
    assert str(raised.value).isprintable()


PASSWORDS = [
    *(
        "hunter2",
        "hun/ter2",
        "hun?ter2",
        "hun#ter2",
        "12/34ter2",
        "12?34ter2",
        "12?db=ter2",
        "12#ter2",
        "/ter2",
        "#ter2",
    ),
    *(
        "?ter2",
        "h[ter2",
        "h]ter2",
        "[ter2]",
        "hun@ter2",
        "hun@/ter2",
        "12?timeout=ter2",
        "hun ter2",
        "hun:ter2",
    ),
    *(
        "h\u2048ter2",
        "hun%ter2",
        "ter2\n",
        "ter2\x1b",
        "hun//ter2",
        "hun://ter2",
        "hun\\ter2",
        "hun?token=ter2",
        "hun;ter2",
    ),
]


def told(url: str) -> str:
    """The error of a URL, and the names of what it opens."""
    try:
        source = open_url(url)
    except UsageError as error:
        return (
            "".join(traceback.format_exception(error)) if error.__suppress_context__ else str(error)
        )
    return f"{source.name} {source!r}"


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "form",
    [
        "{}://user:{}@host:1?bad=1",
        "{}://:{}@host/bad/path/?bad=1",
        "{}://h1,user:{}@host:port",
        "{}://user:{}@",
    ],
)
def test_no_error_shows_a_password(form: str, password: str) -> None:
    """Whatever stands in it: with / ? or # it ends the host, and is read as path, query or port."""
    for scheme in (
        "etcd",
        "etcds",
        "redis",
        "kafka",
        "sqlite",
        "rest",
        "http",
        "grpc+watch",
        "memory",
        "nosuch",
    ):
        assert "ter2" not in told(form.format(scheme, password))


@pytest.mark.parametrize("password", ["hunter2", "hun/ter2", "hun#ter2", "hun?ter2"])
def test_a_host_that_is_missing_shows_no_password(password: str) -> None:
    for scheme in ("etcd", "redis", "kafka", "sqlite", "rest", "http", "grpc+watch"):
        assert "ter2" not in told(f"{scheme}://user:{password}")


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "form",
    [
        "etcd:/user:{}@host",
        "etcd//user:{}@host",
        "user:{}@host",
        "etcd:user:{}",
        "etcd;://user:{}@host",
        "user:{}@etcd://host",
    ],
)
def test_what_is_no_url_shows_no_password(form: str, password: str) -> None:
    with pytest.raises(BadUrl) as raised:
        open_url(form.format(password))
    assert "ter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1?token:hunter2",
        "http://127.0.0.1:1?hunter2",
        "http://127.0.0.1:1?hunter=",
        "grpc+watch://127.0.0.1:1?hunter2=",
        "http://127.0.0.1:1/token=hunter2",
        "rest://127.0.0.1:1/Token:hunter2",
        "etcd://127.0.0.1:1/password=hunter2",
        "redis://127.0.0.1:1/password=hunter2",
        "redis+cluster://127.0.0.1:1/sentinel_password=hunter2",
        "kafka://127.0.0.1:1/topic/password=hunter2",
        "etcd://user%3Ahunter2@127.0.0.1:1",
        "redis://user%3Ahunter2@127.0.0.1:1/nosuch",
    ],
)
def test_a_token_or_password_that_was_typed_in_another_place(url: str) -> None:
    assert "hunter" not in told(url)


@pytest.mark.parametrize(
    "url",
    [
        "rest://127.0.0.1:1?token=a@b",
        "http://h:1?token=a@b",
        "sqlite:///me@home/x.db",
        "redis://u@h",
    ],
)
def test_an_at_that_is_no_password(url: str) -> None:
    assert open_url(url).name == url.partition("?")[0]


@pytest.mark.parametrize("label", ["", "a/b", "\udcff", 5])
def test_labels(label: Any) -> None:
    with pytest.raises(BadPrefix, match="is not a name"):
        DataSync("memory://", label=label)


@pytest.mark.parametrize("prefix", ["a", "\udcff/", 5])
def test_prefixes(prefix: Any) -> None:
    with pytest.raises(BadPrefix):
        DataSync("memory://", prefix=prefix)
    with pytest.raises(BadPrefix):
        DataSync("memory://").watch("w", prefix)


@pytest.mark.parametrize(
    "name", ["ack_timeout", "resync_timeout", "connect_timeout", "ping_interval", "ping_timeout"]
)
@pytest.mark.parametrize("value", [0, -1, "2", None, float("nan")])
def test_times(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} must be a positive number of seconds, got"):
        DataSync("memory://", **{name: value})


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"initial": 0}, "initial must be a positive number of seconds, got 0"),
        ({"maximum": -1}, "maximum must be a positive number of seconds, got -1"),
        ({"maximum": "5"}, "maximum must be a positive number of seconds, got '5'"),
        ({"initial": float("nan")}, "initial must be a positive number of seconds, got nan"),
        ({"factor": 0.5}, "factor must be a number from 1 to inf, got 0.5"),
        ({"jitter": 25}, "jitter must be a number from 0 to 1, got 25"),
        ({"jitter": -0.1}, "jitter must be a number from 0 to 1, got -0.1"),
        ({"jitter": None}, "jitter must be a number from 0 to 1, got None"),
    ],
)
def test_waits_that_could_not_be_waited(given: dict[str, Any], wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        Backoff(**given)


def test_names_that_are_none() -> None:
    sync = DataSync("memory://")
    with pytest.raises(UsageError, match=r"^after= takes a name or a list of names, got 3$"):
        sync.watch("w", "a/", after=3)  # type: ignore[call-overload]
    with pytest.raises(BadKey, match=r"^keys= takes a list; write keys=\[3\]$"):
        sync.watch("w", keys=3)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match=r"^write_to= takes a name or a list of names, got 3$"):
        DataSync("memory://", write_to=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["retry", "reconnect"])
@pytest.mark.parametrize("value", [3, 0.5, {"maximum": 5}, "5", Backoff])
def test_waits_are_a_backoff(name: str, value: Any) -> None:
    wrong = rf"{name} must be a Backoff, for example Backoff\(maximum=5\), got "
    with pytest.raises(UsageError, match=wrong):
        DataSync("memory://", **{name: value})
    if name == "retry":
        with pytest.raises(UsageError, match=wrong):
            DataSync("memory://").watch("w", "a/", retry=value)


@pytest.mark.parametrize("confirm", [0, -1, "2", None, float("nan"), float("inf")])
def test_confirm_is_checked_before_the_write(confirm: Any) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            with pytest.raises(UsageError, match="must be True, False, a positive number"):
                await sync.put("k", b"v", confirm=confirm)
            with pytest.raises(UsageError, match="must be True, False, a positive number"):
                await sync.txn().put("k", b"v").commit(confirm=confirm)
            assert await sync.get("k") is None

    asyncio.run(main())


def test_a_listing_lets_others_have_their_turn() -> None:
    async def main() -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with DataSync("memory://") as sync:
            txn = sync.txn()
            for number in range(10_000):
                txn.put(f"k{number}", b"")
            await txn.commit()
            counting = asyncio.create_task(count())
            before = [turns async for _ in sync.list("")]
            counting.cancel()
            assert len(set(before)) > 5  # about one a page

    asyncio.run(main())
