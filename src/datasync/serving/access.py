"""Who may reach a server, and what a client shows: addresses, certificates and tokens,
the same for every protocol."""

from __future__ import annotations

import hmac
import os
from urllib.parse import quote

import msgspec

from datasync.endpoints import Endpoint, TlsFiles, address, is_loopback, tls_of
from datasync.errors import BadUrl, UsageError
from datasync.transports import Url, shown_host

__all__ = ["TOKEN", "WANTS_TOKEN", "Access"]

TOKEN = "DATASYNC_TOKEN"  # noqa: S105 - its name
"""The environment variable that holds the bearer token where a URL has none."""
WANTS_TOKEN = f"this server wants a token; give ?token= or {TOKEN}"
"""What a client is told that brings none, or another one."""


class Access(msgspec.Struct, frozen=True):
    """One address, and what both sides show there. `files` are those of
    TLS, None where it is not spoken.

    A client trusts the authorities in `ca`, and shows `cert`; a server shows `cert`, and where
    it has `ca`, wants its clients' certificates from there. The token is the server's to ask
    for and the client's to bring.
    """

    name: str
    """The URL without secrets, for messages."""
    host: str
    port: int
    files: TlsFiles | None = None
    token: str | None = None
    path: str = ""
    """What a client finds the server below, where that is mounted in an application of somebody
    else."""

    @classmethod
    def to_listen(cls, text: str, scheme: str, what: str) -> Access:
        """That of an address to listen on: host:port, where port 0 is any that is free, or a URL of
        `scheme`, with TLS where an s follows; `what` takes it. Raises `BadUrl`, `UsageError`."""
        if not isinstance(text, str):
            raise UsageError(f"{what} takes host:port, not {type(text).__name__}")
        url = Url(text if "://" in text else f"{scheme}://{text}")
        if url.scheme not in (scheme, f"{scheme}s"):
            raise UsageError(f"{what} takes host:port, {scheme}:// or {scheme}s://, not {url}")
        tls = url.scheme.endswith("s")
        return url.made(lambda given: cls.of_url(given, tls=tls, any_port=True))

    @classmethod
    def of_url(
        cls, url: Url, *, tls: bool, any_port: bool = False, mounted: bool = False
    ) -> Access:
        """Take the address and the options ca=, cert=, key= and token= out
        of a URL; with `any_port` its port may be 0, with `mounted` it may have a path. Raises
        `BadUrl`."""
        path = url.path.rstrip("/")
        if path and not mounted:
            raise BadUrl(
                f"{url}: the path has no meaning here; name the keys with prefix= or label="
            )
        if url.user is not None:
            raise BadUrl(
                f"{url.scheme}://{shown_host(url.hosts)}: users and passwords have no meaning "
                "here; give ?token="
            )
        endpoint = address(url, any_port=any_port)
        protocol, plus, role = url.scheme.partition("+")
        files = tls_of(url, f"{protocol}s{plus}{role}://", spoken=tls)
        token = url.option("token", _token, None)
        if token is None and (given := os.environ.get(TOKEN)):
            try:
                token = _token(given)
            except ValueError as error:
                raise BadUrl(f"{TOKEN} {error}") from None
        return cls(str(url).rstrip("/"), endpoint.bare, endpoint.port, files, token, quote(path))

    @property
    def tls(self) -> bool:
        """Whether TLS is spoken."""
        return self.files is not None

    @property
    def authority(self) -> str:
        """host:port, with the brackets of IPv6."""
        return str(Endpoint.of(self.host, self.port))

    def at_port(self, port: int) -> Access:
        """This, where a server came to listen: at `port`, where any would do."""
        return msgspec.structs.replace(self, port=port)

    def check_bind(self) -> None:
        """Raise `BadUrl` unless a server may listen there: not beyond this machine
        without a token or TLS clients."""
        if self.files is not None and self.files.cert is None:
            raise BadUrl(
                f"{self.name}: a server shows a certificate; give cert= and key=, the names of "
                "PEM files"
            )
        if (
            not is_loopback(self.host)
            and self.token is None
            and (self.files is None or self.files.ca is None)
        ):
            raise BadUrl(
                f"{self.name}: listening beyond this machine needs a token (token= or {TOKEN}), or "
                "TLS with ca= for the clients' certificates; or use 127.0.0.1"
            )

    def admits(self, token: str | None) -> bool:
        """Whether a client that brings this token may come in; takes the same time
        however much of it is right."""
        if self.token is None:
            return True
        return hmac.compare_digest((token or "").encode(errors="replace"), self.token.encode())

    def __repr__(self) -> str:
        return f"Access({self.name})"


def _token(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        # what is wrong with it would tell part of it
        raise ValueError("takes printable ASCII without blanks")
    return text
