"""What the URLs of servers have in common: hosts with ports, and the files of TLS."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from datasync.errors import BadUrl
from datasync.transports import Url

__all__ = ["Endpoint", "TlsFiles", "context_of", "endpoints", "no_tls_files", "tls_context", "tls_files"]


class Endpoint(NamedTuple):
    """Where a server listens. An IPv6 address keeps its brackets in `host`."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class TlsFiles(NamedTuple):
    """PEM files: whom to trust (None: whom this system trusts), and the client's certificate with its key."""

    ca: Path | None
    cert: Path | None
    key: Path | None


def endpoints(url: Url, port: int) -> list[Endpoint]:
    """The hosts of the URL; `port` where one names none. Raises `BadUrl`."""
    return [_endpoint(url, host, port) for host in url.hosts.split(",")]


def _endpoint(url: Url, host: str, default: int) -> Endpoint:
    name, colon, port = host.rpartition(":") if host.count(":") == 1 or "]:" in host else (host, "", str(default))
    if not name or not port.isdecimal() or (colon and not 0 < int(port) < 65536):
        raise BadUrl(f"{url}: {host!r} is no host; write host, host:port or [ipv6]:port, several with commas")
    return Endpoint(name, int(port))


def tls_files(url: Url) -> TlsFiles:
    """The options `ca`, `cert` and `key`. Raises `BadUrl` where a file cannot be read."""
    files = TlsFiles(*(url.option(name, _readable, None) for name in TlsFiles._fields))
    if (files.cert is None) is not (files.key is None):
        raise BadUrl(f"{url}: cert= and key= belong together; give both")
    return files


def tls_context(url: Url) -> ssl.SSLContext:
    """For a client: made of the same options. Raises `BadUrl` where the files are not what they should be."""
    return context_of(url, tls_files(url))


def context_of(url: Url, files: TlsFiles) -> ssl.SSLContext:
    """What `tls_context` makes of these files."""
    try:
        context = ssl.create_default_context(cafile=files.ca)
        if files.cert is not None:
            context.load_cert_chain(files.cert, files.key, password="")  # else it would ask for one at the terminal
    except ssl.SSLError as error:
        raise BadUrl(
            f"{url}: ca=, cert= and key= must be PEM files that belong together, the key without a password"
            f" ({error.reason or error})"
        ) from None
    return context


def no_tls_files(url: Url, instead: str) -> None:
    """Refuse these options where TLS is not spoken; `instead` says what to write."""

    def refuse(_: str) -> None:
        raise ValueError(f"is about TLS, which {url.scheme}:// does not speak; write {instead}")

    for name in TlsFiles._fields:
        url.option(name, refuse, None)


def _readable(name: str) -> Path:
    path = Path(name)
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"names a file that cannot be read: {name} ({error.strerror})") from None
    return path
