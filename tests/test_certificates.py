"""How a client's own certificate is: what its files tell."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from datasync import BadUrl
from datasync.certificates import own_findings
from datasync.endpoints import TlsFiles
from datasync.findings import Finding, Severity
from tests.helpers.certificates import Authority
from tests.helpers.servers import require

DAY = 86400.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    openssl = require("openssl", "apt-get install -y openssl")
    made = Authority(openssl, tmp_path_factory.mktemp("own") / "ours")
    for name, days in (("fine", 30), ("other", 30), ("soon", 10), ("tomorrow", 1), ("expired", -1)):
        made.issue(name, days)
    return made


def found(cert: Path, key: Path) -> Finding:
    """The one finding."""
    [finding] = own_findings(TlsFiles(None, cert, key))
    assert finding.about == "certificate"
    assert (finding.severity is Severity.OK) is (not finding.advice)
    return finding


def unusable(cert: Path, key: Path) -> str:
    """What is said of files that no client can be made with."""
    with pytest.raises(BadUrl) as raised:
        own_findings(TlsFiles(None, cert, key))
    assert "SECRET" not in str(raised.value)
    return str(raised.value)


def day(left: float) -> str:
    """A date, so many days from now."""
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() + left * DAY))


def test_one_that_is_well(authority: Authority) -> None:
    finding = found(authority.cert("fine"), authority.key("fine"))
    assert finding.severity is Severity.OK
    assert finding.text == f"this client's ({authority.cert('fine')}) is valid until {day(30)}"


def test_none_is_shown(authority: Authority) -> None:
    assert own_findings(TlsFiles(authority.ca, None, None)) == []


@pytest.mark.parametrize(("name", "left"), [("soon", "10 days"), ("tomorrow", "24 hours")])
def test_one_that_ends_soon(authority: Authority, name: str, left: str) -> None:
    finding = found(authority.cert(name), authority.key(name))
    assert finding.severity is Severity.WARNING
    assert f") ends in {left}, on " in finding.text
    assert finding.advice.startswith("renew it")


def test_one_that_has_expired(authority: Authority) -> None:
    finding = found(authority.cert("expired"), authority.key("expired"))
    assert finding.severity is Severity.ERROR
    assert finding.text.endswith(f") has expired, on {day(-1)}")
    assert finding.advice == "renew it, or set the clock of this machine"


def test_one_that_is_not_valid_yet(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    today, now = day(0), time.time
    monkeypatch.setattr("datasync.certificates.time.time", lambda: now() - 2 * DAY)
    finding = found(authority.cert("fine"), authority.key("fine"))
    assert finding.severity is Severity.ERROR
    assert finding.text.endswith(f") is not valid before {today}")
    assert finding.advice == "renew it, or set the clock of this machine"


def test_a_file_that_cannot_be_read(authority: Authority, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    text = unusable(missing, authority.key("fine"))
    assert text.startswith(f"this client's: {missing} cannot be read (No such file or directory); ")
    text = unusable(authority.cert("fine"), tmp_path)
    assert text.startswith(f"this client's: {tmp_path} cannot be read (Is a directory); ")
    assert "cert= and key=" in text


def rsa(key: Path) -> None:
    """Make a key of another kind."""
    openssl = require("openssl", "apt-get install -y openssl")
    subprocess.run(
        [openssl, "genpkey", "-algorithm", "RSA", "-out", str(key)], check=True, capture_output=True
    )


def encrypted(key: Path) -> None:
    """Make a key that is no use without a password."""
    openssl = require("openssl", "apt-get install -y openssl")
    subprocess.run(
        [openssl, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-aes256", "-pass", "pass:SECRET", "-out", str(key)],
        check=True, capture_output=True,
    )  # fmt: skip


def plain(key: Path) -> None:
    """Make something else."""
    key.write_text("no key")


def test_a_key_of_another_certificate(authority: Authority, tmp_path: Path) -> None:
    rsa(tmp_path / "rsa.key")
    for key in (authority.key("other"), tmp_path / "rsa.key"):
        text = unusable(authority.cert("fine"), key)
        assert f") does not belong to the key {key}; " in text


@pytest.mark.parametrize("make", [encrypted, plain])
def test_a_key_that_is_no_use(
    authority: Authority, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    key = tmp_path / "it.key"
    make(key)
    said = unusable(authority.cert("fine"), key)
    assert f") cannot be used with the key {key} (" in said
    assert "without a password" in said


def test_a_certificate_that_is_none(authority: Authority) -> None:
    assert ") cannot be used with the key " in unusable(
        authority.key("fine"), authority.key("fine")
    )


def test_one_that_was_not_issued_for_a_client(authority: Authority) -> None:
    finding = found(authority.ca, authority.ca.with_suffix(".key"))
    assert finding.severity is Severity.ERROR
    assert ") was not issued for a client (" in finding.text
    assert finding.advice == "have one issued for clientAuth"
