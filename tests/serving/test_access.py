"""Who may reach a server: addresses, binding, tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasync import BadUrl
from datasync.serving.access import Access
from datasync.transports import Url
from tests.helpers.certificates import Authority
from tests.helpers.servers import require


def access(text: str, *, tls: bool = False) -> Access:
    """The access that a URL gives."""
    url = Url(text)
    found = Access.of_url(url, tls=tls)
    url.finish()
    return found


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(
        require("openssl", "apt-get install -y openssl"), tmp_path_factory.mktemp("tls") / "ours"
    )
    authority.issue("server")
    return authority


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATASYNC_TOKEN", raising=False)


def test_addresses() -> None:
    assert access("grpc://127.0.0.1:9111").authority == "127.0.0.1:9111"
    assert access("grpc://[::1]:9111").authority == "[::1]:9111"
    for bad in ("127.0.0.1", ":9111", "a:0", "a:65536", "a:x", "::1:9111", "[::1]", "a:1,b:2", ""):
        with pytest.raises(
            BadUrl, match=r"is not an address; .*, the port a number from 1 to 65535$"
        ):
            access(f"grpc://{bad}")
    with pytest.raises(BadUrl, match="path"):
        access("grpc://127.0.0.1:1/x")
    with pytest.raises(BadUrl, match="token="):
        access("grpc://user:secret@127.0.0.1:1")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost"])
def test_loopback_is_open(host: str) -> None:
    access(f"grpc://{host}:1").check_bind()


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "[::]", "192.0.2.1", "example.org", "[::ffff:1.2.3.4]", "localhost.example.org"],
)
def test_beyond_the_machine_only_with_something_to_show(host: str, ours: Authority) -> None:
    pair = f"cert={ours.cert('server')}&key={ours.key('server')}"
    with pytest.raises(BadUrl, match="listening beyond this machine needs a token"):
        access(f"grpc://{host}:1").check_bind()
    with pytest.raises(BadUrl, match="listening beyond"):
        access(f"grpcs://{host}:1?{pair}", tls=True).check_bind()
    access(f"grpc://{host}:1?token=x").check_bind()
    access(f"grpcs://{host}:1?{pair}&ca={ours.ca}", tls=True).check_bind()


def test_certificates(tmp_path: Path, ours: Authority) -> None:
    with pytest.raises(BadUrl, match="certificate"):
        access("grpcs://127.0.0.1:1", tls=True).check_bind()
    with pytest.raises(BadUrl, match="belong together"):
        access(f"grpcs://127.0.0.1:1?cert={__file__}", tls=True)
    with pytest.raises(BadUrl, match="cannot be read"):
        access(f"grpcs://127.0.0.1:1?ca={tmp_path}/none", tls=True)
    for query in (f"cert={ours.ca}&key={ours.key('server')}", f"ca={ours.key('server')}"):
        with pytest.raises(BadUrl, match="PEM files that belong together"):
            access(f"grpcs://127.0.0.1:1?{query}", tls=True)
    with pytest.raises(BadUrl, match="write grpcs://"):
        access("grpc://127.0.0.1:1?ca=x")


def test_tokens_are_asked_for_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = access("grpc://127.0.0.1:1?token=s3cret")
    assert asking.admits("s3cret")
    assert not any(map(asking.admits, (None, "", "s3cre", "s3cret2", "\u00e9", "\udc80")))
    assert access("grpc://127.0.0.1:1").admits(None)
    assert "s3cret" not in repr(asking) + str(asking) + asking.name
    monkeypatch.setenv("DATASYNC_TOKEN", "other")
    assert access("grpc://127.0.0.1:1").token == "other"
    assert access("grpc://127.0.0.1:1?token=s3cret").token == "s3cret"
    monkeypatch.setenv("DATASYNC_TOKEN", "s3cret here")
    for bad in (
        "grpc://127.0.0.1:1",
        "grpc://127.0.0.1:1?token=s3cret%0a",
        "grpc://127.0.0.1:1?token=",
    ):
        with pytest.raises(BadUrl, match="printable") as caught:
            access(bad)
        assert "s3cret" not in str(caught.value)
