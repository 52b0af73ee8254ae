"""URLs, and what is known of server versions; no server is needed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from datasync import BadUrl, open_url
from datasync.kvdbsync.etcd.keys import Range, cover
from datasync.kvdbsync.etcd.versions import advice, progress_is_ordered
from tests.helpers.certificates import Authority
from tests.helpers.servers import require


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("etcd://h", "etcd://h"),
        ("etcd://h:1/", "etcd://h:1"),
        ("etcd://u:p%40ss@h1,h2:3,[::1]:4?timeout=0.5", "etcd://u@h1,h2:3,[::1]:4"),
        ("etcds://h", "etcds://h"),
    ],
)
def test_good_urls(url: str, name: str) -> None:
    assert open_url(url).name == name


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("etcd://", "is not a host"),
        ("etcd://h:port", "is not a host"),
        ("etcd://h:0", "is not a host"),
        ("etcd://h:99999", "is not a host"),
        ("etcd://h1,,h2", "is not a host"),
        ("etcd://h/config/", "prefix="),
        ("etcd://:secret@h", "without a user"),
        ("etcd://h?timeout=0", "timeout="),
        ("etcd://h?timeout=soon", "timeout="),
        ("etcd://h?tiemout=1", "tiemout"),
        ("etcd://h?ca=x", "etcds://"),
        ("etcds://h?ca=/does/not/exist", "cannot be read"),
        ("etcds://h?cert=CERT", "belong together"),
    ],
)
def test_bad_urls(url: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("text")
    with pytest.raises(BadUrl, match=says) as caught:
        open_url(url.replace("CERT", str(file)))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_grpc_could_not_use(tmp_path: Path) -> None:
    openssl = require("openssl", "apt-get install -y openssl")
    ours = Authority(openssl, tmp_path / "ours")
    for name in ("client", "other"):
        ours.issue(name)
    locked = tmp_path / "locked.key"
    command = [
        openssl,
        "ec",
        "-in",
        str(ours.key("client")),
        "-aes128",
        "-passout",
        "pass:s3cret",
        "-out",
        str(locked),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "text").write_text("text")
    cert, key = ours.cert("client"), ours.key("client")
    open_url(f"etcds://h?ca={ours.ca}&cert={cert}&key={key}")
    for query in (
        f"ca={tmp_path}/text",
        f"ca={key}",
        f"cert={tmp_path}/text&key={key}",
        f"cert={cert}&key={ours.key('other')}",
        f"cert={key}&key={cert}",
        f"cert={cert}&key={locked}",
    ):
        with pytest.raises(BadUrl, match="PEM files that belong together") as caught:
            open_url(f"etcds://h?{query}")
        assert "\n" not in str(caught.value)


def test_the_covering_range() -> None:
    assert cover(["a/"]) == Range(b"a/", b"a0")
    assert cover(["a/b"]) == Range(b"a/b", b"")
    assert cover([""]) == Range(b"\0", b"\0")
    assert cover(["a/", "c", "b/x/"]) == Range(b"a/", b"c\0")
    assert cover(["k", "ü/"]) == Range(b"k", "ü0".encode())


@pytest.mark.parametrize(
    ("version", "ordered", "fixed"),
    [
        ("3.3.9", False, "3.4"),
        ("3.4.23", False, "3.4.38"),
        ("3.4.25", True, "3.4.38"),
        ("3.4.37", True, "3.4.38"),
        ("3.4.38", True, None),
        ("3.5.7", False, "3.5.22"),
        ("3.5.8", True, "3.5.22"),
        ("3.5.21", True, "3.5.22"),
        ("3.5.22", True, None),
        ("3.6.0", True, "3.6.2"),
        ("3.6.16", True, None),
        ("3.7.0-beta.0", True, None),
        ("4.0.0", True, None),
        ("", False, "3.4"),
    ],
)
def test_versions(version: str, ordered: bool, fixed: str | None) -> None:
    assert progress_is_ordered(version) is ordered
    said = advice(version)
    assert (said is None) is (fixed is None)
    assert said is None or fixed in said  # type: ignore[operator]
