"""What the URLs of servers have in common: hosts with ports, and the files of TLS."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from datasync.errors import BadUrl, Disconnected
from datasync.transports import Url, shown_host

__all__ = [
    "MAX_ANSWER",
    "SLOWEST",
    "Endpoint",
    "TlsFiles",
    "address",
    "endpoints",
    "is_loopback",
    "max_answer",
    "tls_files",
    "tls_of",
]

MAX_ANSWER = 256 << 20
"""Bytes that one answer or event of a server may have, unless its URL says otherwise."""
_LEAST_ANSWER = 64 << 10
SLOWEST = 64 << 10
"""Bytes of a large answer that have to come each second, once its time is over: a server that drips
it does not hold anybody up."""

_HOST_AND_PORT = re.compile(r"(?P<host>\[[^][,]*:[^][,]*\]|[^][:,]+)(?::(?P<port>[0-9]{1,5}))?")
"""An address of IPv6 has brackets: without them its last part could be meant as a port."""


class Endpoint(NamedTuple):
    """Where a server listens. An IPv6 address keeps its brackets in `host`."""

    host: str
    port: int

    @classmethod
    def of(cls, host: str, port: int) -> Endpoint:
        """With the brackets of an IPv6 address."""
        return cls(f"[{host}]" if ":" in host else host, port)

    @property
    def bare(self) -> str:
        """The host as a socket takes it, without brackets."""
        return self.host.strip("[]")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class TlsFiles(NamedTuple):
    """PEM files: the authorities to trust (None: those of this system), and
    one's own certificate with its key.

    They are renewed under the same names while a process runs, so `context` and `read` are called
    for each new connection, and what they return is kept by none.
    """

    ca: Path | None
    cert: Path | None
    key: Path | None

    def context(self, *alpn: str) -> ssl.SSLContext:
        """For a client's next connection, of the files as they are now; it offers the protocols
        `alpn`. Raises `Disconnected` where they cannot be used, as in the midst of a renewal."""
        try:
            return _context(self, self._stamps(), alpn)
        except (OSError, ssl.SSLError) as error:
            raise self._unusable(error) from None

    def server_contexts(self) -> Callable[[], ssl.SSLContext]:
        """For a server, which wants certificates of its clients where there is `ca`: returns what
        makes the context of its next connection, of the files as they are then, or as they were
        when they last could be used. Raises as `context` does."""
        try:
            stamps, newest = self._stamps(), _server_context(self)
        except (OSError, ssl.SSLError) as error:
            raise self._unusable(error) from None

        def context() -> ssl.SSLContext:
            nonlocal stamps, newest
            with contextlib.suppress(OSError, ssl.SSLError):
                if (now := self._stamps()) != stamps:
                    # G11: another one, not that one with other files: it knows the sessions that
                    # it has begun, and goes on with them without asking who the client is
                    newest, stamps = _server_context(self), now
            return newest

        return context

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """What they hold now: ca, cert, key. Raises as `context` does."""
        try:
            _context(self, self._stamps(), ())
            ca, cert, key = (None if path is None else path.read_bytes() for path in self)
        except (OSError, ssl.SSLError) as error:
            raise self._unusable(error) from None
        return ca, cert, key

    def _stamps(self) -> tuple[object, ...]:
        """What differs once a file is another one, or holds something else."""
        ca, cert, key = self
        ca = ca or _system_authorities()
        found = [path.stat() for path in (ca, cert, key) if path is not None]
        return tuple(
            (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            for stat in found
        )

    def _unusable(self, error: OSError) -> Disconnected:
        if isinstance(error, ssl.SSLError):
            names = ", ".join(str(path) for path in self if path is not None)
            return Disconnected(
                f"{names}: PEM files that do not belong together now ({_reason(error)}); renew "
                "them all"
            )
        return Disconnected(
            f"{error.filename}: it cannot be read now ({error.strerror}); put it back"
        )


def _system_authorities() -> Path | None:
    path = ssl.get_default_verify_paths().cafile
    return None if path is None else Path(path)


@functools.lru_cache(maxsize=16)
def _context(files: TlsFiles, stamps: tuple[object, ...], alpn: tuple[str, ...]) -> ssl.SSLContext:
    """Made once for each state of the files: a system has many authorities,
    which take tens of milliseconds."""
    context = ssl.create_default_context(cafile=files.ca)
    if files.cert is not None:
        # else it would ask for one at the terminal
        context.load_cert_chain(files.cert, files.key, password="")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _server_context(files: TlsFiles) -> ssl.SSLContext:
    assert files.cert is not None  # checked by the caller, before it listens
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.cert, files.key, password="")
    if files.ca is not None:
        context.load_verify_locations(files.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def endpoints(url: Url, port: int) -> list[Endpoint]:
    """The hosts of the URL; `port` where one names none. Raises `BadUrl`."""
    found = []
    for host in url.hosts.split(","):
        if (endpoint := _endpoint(host, port)) is None:
            raise BadUrl(
                f"{url}: {shown_host(host)!r} is not a host; write host, host:port or "
                "[ipv6]:port, several with commas"
            )
        found.append(endpoint)
    return found


def address(url: Url, *, any_port: bool = False) -> Endpoint:
    """The one host of the URL, with its port, which may be 0 with `any_port`. Raises `BadUrl`."""
    least = 0 if any_port else 1
    if (endpoint := _endpoint(url.hosts, None, least)) is None:
        raise BadUrl(
            f"{url}: {shown_host(url.hosts)!r} is not an address; write host:port or [ipv6]:port, "
            f"the port a number from {least} to 65535"
        )
    return endpoint


def _endpoint(text: str, default: int | None, least: int = 1) -> Endpoint | None:
    """A host with its port, or with the default one; None where the text is not that."""
    if (found := _HOST_AND_PORT.fullmatch(text)) is None:
        return None
    host, port = found["host"], int(found["port"] or default or -1)
    return Endpoint(host, port) if _is_host(host.strip("[]")) and least <= port < 65536 else None


def _is_host(name: str) -> bool:
    """Whether a host can have that name, or is that address: each of its
    labels has 1 to 63 characters."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls_files(url: Url) -> TlsFiles:
    """The options `ca`, `cert` and `key`. Raises `BadUrl` where the files are
    not what they should be now."""
    files = TlsFiles(*(url.option(name, _readable, None) for name in TlsFiles._fields))
    if (files.cert is None) is not (files.key is None):
        raise BadUrl(f"{url}: cert= and key= belong together; give both")
    try:
        _context(files, files._stamps(), ())
    except ssl.SSLError as error:
        raise BadUrl(
            f"{url}: ca=, cert= and key= must be PEM files that belong together, the key without a "
            f"password ({_reason(error)})"
        ) from None
    return files


def _reason(error: ssl.SSLError) -> str:
    return error.reason or str(error)


def tls_of(url: Url, instead: str, *, spoken: bool) -> TlsFiles | None:
    """These options where TLS is spoken. Elsewhere they are refused, and
    `instead` says what to write."""
    if spoken:
        return tls_files(url)

    def refuse(_: str) -> None:
        raise ValueError(f"is about TLS, which {url.scheme}:// does not speak; write {instead}")

    for name in TlsFiles._fields:
        url.option(name, refuse, None)
    return None


def _readable(name: str) -> Path:
    path = Path(name).absolute()  # the process may go elsewhere
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"names a file that cannot be read: {name} ({error.strerror})") from None
    return path


def max_answer(url: Url) -> int:
    """The option `max_answer`: bytes that one answer or event of the server
    may have. Raises `BadUrl`."""
    return url.option("max_answer", _size, MAX_ANSWER)


def _size(text: str) -> int:
    if not (text.isdecimal() and text.isascii()) or len(text) > 18 or int(text) < _LEAST_ANSWER:
        raise ValueError(f"takes a number of bytes >= {_LEAST_ANSWER}, not {text!r}")
    return int(text)
