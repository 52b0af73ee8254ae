"""Certificates of an authority of our own, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["Authority"]


class Authority:
    """A certificate authority in a directory of its own."""

    def __init__(self, openssl: str, directory: Path) -> None:
        directory.mkdir()
        self._openssl = openssl
        self._directory = directory
        self._run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ca.key")
        self._run(
            "req",
            "-x509",
            "-new",
            "-key",
            "ca.key",
            "-days",
            "30",
            "-subj",
            "/CN=test",
            "-out",
            "ca.pem",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        )

    @property
    def ca(self) -> Path:
        """The certificate of the authority."""
        return self._directory / "ca.pem"

    def cert(self, name: str) -> Path:
        """A certificate that was issued."""
        return self._directory / f"{name}.pem"

    def key(self, name: str) -> Path:
        """Its private key."""
        return self._directory / f"{name}.key"

    def issue(self, name: str, days: int = 30, subject: str = "IP:127.0.0.1") -> None:
        """Make a key and a certificate for that address, valid for so many days
        (less than 0: not any more)."""
        self._run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        self._run(
            "req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr"
        )
        extensions = self._directory / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName={subject}\nextendedKeyUsage=serverAuth,clientAuth\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        self._run(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", str(days), "-extfile", extensions.name, "-out",
            f"{name}.pem",
        )  # fmt: skip

    def _run(self, *args: str) -> None:
        done = subprocess.run(
            [self._openssl, *args], cwd=self._directory, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
