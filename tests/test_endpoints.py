"""TLS of the files as they are: renewed under the same names, in the midst of that, and gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from datasync import Disconnected
from datasync.endpoints import TlsFiles, tls_files
from datasync.transports import Url
from tests.helpers.certificates import Authority
from tests.helpers.servers import require


@pytest.fixture
def renewable(tmp_path: Path) -> tuple[TlsFiles, list[Authority]]:
    """The files that a URL names, which hold what the first of two authorities issued."""
    openssl = require("openssl", "apt-get install -y openssl")
    authorities = [Authority(openssl, tmp_path / name) for name in ("old", "new")]
    for authority in authorities:
        authority.issue("client")
    names = {name: tmp_path / f"{name}.pem" for name in TlsFiles._fields}
    files = TlsFiles(**names)
    for part in TlsFiles._fields:
        _take(files, authorities[0], part)
    query = "&".join(f"{name}={path}" for name, path in names.items())
    return tls_files(Url(f"rediss://host?{query}")), authorities


def _take(files: TlsFiles, authority: Authority, part: str) -> None:
    found = {"ca": authority.ca, "cert": authority.cert("client"), "key": authority.key("client")}[
        part
    ]
    getattr(files, part).write_bytes(found.read_bytes())


def test_renewed_files_make_another_context(renewable: tuple[TlsFiles, list[Authority]]) -> None:
    files, (_, new) = renewable
    before = files.context()
    assert files.context() is before, "the same files are not read twice"
    for part in TlsFiles._fields:
        _take(files, new, part)
    after = files.context()
    assert after is not before
    assert after.get_ca_certs() != before.get_ca_certs()
    assert files.read() == (
        new.ca.read_bytes(),
        new.cert("client").read_bytes(),
        new.key("client").read_bytes(),
    )


def test_in_the_midst_of_a_renewal_it_is_tried_again(
    renewable: tuple[TlsFiles, list[Authority]],
) -> None:
    files, (_, new) = renewable
    assert files.ca is not None
    assert files.key is not None
    _take(files, new, "cert")
    for call in (files.context, files.read):
        with pytest.raises(Disconnected, match="do not belong together now"):
            call()
    _take(files, new, "key")
    files.context()
    files.ca.unlink()
    with pytest.raises(Disconnected, match=r"ca\.pem: it cannot be read now"):
        files.context()
    files.ca.write_bytes(b"")  # the first half of a write
    with pytest.raises(Disconnected, match="do not belong together now"):
        files.context()
    _take(files, new, "ca")
    files.context()


def test_a_link_that_leads_elsewhere_counts(
    renewable: tuple[TlsFiles, list[Authority]], tmp_path: Path
) -> None:
    """As mounted secrets are renewed: the files of both are there all the time."""
    files, (old, new) = renewable
    assert files.ca is not None
    link, other = tmp_path / "link", tmp_path / "other"
    link.symlink_to(old.ca)
    linked = files._replace(ca=link)
    before = linked.context()
    other.symlink_to(new.ca)
    os.replace(other, link)
    assert linked.context() is not before


def test_names_are_those_of_the_moment_when_they_were_given(
    renewable: tuple[TlsFiles, list[Authority]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = tls_files(Url("rediss://host?ca=ca.pem"))
    monkeypatch.chdir("/")
    files.context()
