"""From a URL to a Source: parsing, and the register of schemes."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from datasync.errors import BadUrl, MissingExtra
from datasync.source import Source
from datasync.texts import printable

__all__ = ["Url", "holds_secret", "no_url", "open_url", "schemes", "shown_host"]

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

T = TypeVar("T")

# scheme: (module and factory, extra that brings what it imports)
_BUILT_IN = {
    "memory": ("datasync.kvdbsync.memory:from_url", ""),
    "sqlite": ("datasync.kvdbsync.sqlite:from_url", ""),
    "file": ("datasync.kvdbsync.files:from_url", "files"),
    "etcd": ("datasync.kvdbsync.etcd:from_url", "etcd"),
    "etcds": ("datasync.kvdbsync.etcd:from_url", "etcd"),
    "redis": ("datasync.kvdbsync.redis:from_url", "redis"),
    "rediss": ("datasync.kvdbsync.redis:from_url", "redis"),
    "redis+sentinel": ("datasync.kvdbsync.redis:from_url", "redis"),
    "redis+cluster": ("datasync.kvdbsync.redis:from_url", "redis"),
    "kafka": ("datasync.msgsync.kafka:from_url", "kafka"),
    "kafkas": ("datasync.msgsync.kafka:from_url", "kafka"),
    "grpc": ("datasync.grpcsync.source:from_url", "grpc"),
    "grpcs": ("datasync.grpcsync.source:from_url", "grpc"),
    "grpc+watch": ("datasync.grpcsync.source:from_url", "grpc"),
    "grpcs+watch": ("datasync.grpcsync.source:from_url", "grpc"),
    "rest": ("datasync.restsync.agent:from_url", "rest"),
    "rests": ("datasync.restsync.agent:from_url", "rest"),
    "http": ("datasync.restsync.client:from_url", "rest"),
    "https": ("datasync.restsync.client:from_url", "rest"),
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_PLAIN = re.compile(r"[\w./~ +-]*")
"""A word, or the name of a file."""
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:[0-9]{0,5})?|[0-9A-Fa-f:.]*")
_SECRETS = {"password", "sentinel_password", "token"}
"""Query keys."""
_QUERY_KEY = re.compile("[A-Za-z_-]+")
_SECRET_IN_PATH = re.compile("(password|token) *[=:]", re.IGNORECASE)
"""As where a slash was typed for the question mark."""
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class Url:
    """A parsed source URL. Its text and repr leave out the password and the
    query, which may hold secrets.

    A factory takes what it knows by `option`, then calls `finish`, so that a
    misspelt query key is an error.
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise BadUrl(f"a source is a URL or a Source object, not {type(text).__name__}")
        scheme, found, rest = text.partition("://")
        if not found or not _SCHEME.fullmatch(scheme):
            raise BadUrl(f"{no_url(text)}; write for example memory:// or sqlite:///file.db")
        self.scheme = scheme.lower()

        if _CONTROL.search(rest):  # urlsplit would leave some of them out without a word
            raise BadUrl(
                f"a URL of {self.scheme}:// has a control character in it; write it as %0A for a "
                "line end"
            )

        try:
            # urlsplit treats schemes it does not know unevenly: split the rest under a neutral one
            parts = urlsplit("x://" + rest)
        except ValueError:  # its text has the password in it
            if "[" in rest or "]" in rest:
                why = (
                    "invalid IPv6 URL; write [ipv6]:port, and %5B and %5D for brackets in a "
                    "password"
                )
            else:
                why = (
                    "a host has letters that stand for others; write host:port, and %xx for them "
                    "in a password"
                )
            raise BadUrl(f"{self.scheme}://: {why}") from None

        user, at, self.hosts = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        self._misread = self._password_in(rest.removeprefix(parts.netloc))
        if self._misread and parts.netloc and "@" in parts.path + parts.fragment:
            raise self._fault("")

        self.user = unquote(name) if at else None
        self.password = unquote(password) if at and password else None
        self.path = unquote(parts.path)

        self._known: list[str] = []
        self._query: dict[str, str] = {}
        for key, value in parse_qsl(parts.query, keep_blank_values=True):
            if key in self._query:
                raise self._fault(f"{key!r} is given twice; give it once")
            self._query[key] = value
        if parts.fragment:
            raise self._fault("a source URL has no '#' part; write %23 for the character")

    def option(self, key: str, parse: Callable[[str], T], default: T) -> T:
        """Take a query key.

        key: its name.
        parse: turns the text into the value; raises ValueError with what it takes instead.
        default: the value where the key is absent.

        Raises `BadUrl`, which names the key.
        """
        self._known.append(key)
        if key not in self._query:
            return default
        try:
            return parse(self._query.pop(key))
        except ValueError as error:
            raise self._fault(f"{key}= {error}") from None

    def made(self, factory: Callable[[Url], T]) -> T:
        """What a factory makes of this, which has to take every query key. Raises `BadUrl`."""
        try:
            made = factory(self)
        except BadUrl:
            if self._misread:
                raise self._fault("") from None
            raise
        self.finish()
        return made

    def finish(self) -> None:
        """Raise `BadUrl` for query keys that nobody took."""
        if self._query:
            key, value = min(self._query.items())
            # G11: what is not plainly a key with its value may be a token
            plain = value and _QUERY_KEY.fullmatch(key)
            what = f"unknown query key {key!r}" if plain else "a part of the query is not key=value"
            known = ", ".join(self._known) or "none"
            raise self._fault(f"{what}; {self.scheme}:// knows: {known}")

    @property
    def secret(self) -> bool:
        """Whether a password or a token is in it."""
        return self.password is not None or not _SECRETS.isdisjoint(self._query)

    def _password_in(self, tail: str) -> str:
        """Why a password may have been read as something else, as a host with a port
        or what follows; or nothing."""
        if "@" in tail:
            return (
                "an '@' stands after what was read as the host; write %40 for one that does not "
                "end user:password"
            )
        hidden = [shown for host in self.hosts.split(",") if (shown := shown_host(host)) != host]
        return (
            f"{hidden[0]!r} is not a host; write host, host:port or user:password@host"
            if hidden
            else ""
        )

    def _fault(self, why: str) -> BadUrl:
        """What is wrong. G11: where a password may have been misread,
        nothing of the URL is shown."""
        if not self._misread:
            return BadUrl(f"{self}: {why}")
        return BadUrl(
            f"{self.scheme}://: {self._misread}, and %2F, %3F and %23 for / ? and # in a password"
        )

    def __str__(self) -> str:
        # G11: what follows a colon is a password, also where the colon was percent-encoded
        user = f"{self.user.partition(':')[0]}@" if self.user else ""
        path = "/..." if _SECRET_IN_PATH.search(self.path) else self.path
        return printable(
            f"{self.scheme}://{user}{','.join(map(shown_host, self.hosts.split(',')))}{path}"
        )

    __repr__ = __str__


def shown_host(host: str) -> str:
    """A host as an error may show it: what stands where its port should be is the
    password of a URL without an '@'."""
    return host if _HOST.fullmatch(host) else f"{host.partition(':')[0]}:..."


def no_url(text: str) -> str:
    """That a text is not a URL; it is shown only where it cannot hold a password."""
    return (
        f"{text!r} is not a URL"
        if _PLAIN.fullmatch(text)
        else "what stands for a source is not a URL"
    )


def holds_secret(text: str) -> bool:
    """Whether a URL holds a password or a token; one that does not parse may, where it has an
    '@' (G11)."""
    try:
        return Url(text).secret
    except BadUrl:
        return "@" in text


def boolean(text: str) -> bool:
    """A query value that is yes or no."""
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"takes 1 or 0, not {text!r}")


def seconds(text: str) -> float:
    """A query value that is a positive number of seconds."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(f"takes a positive number of seconds, not {text!r}")
    return value


def schemes() -> list[str]:
    """All schemes that can be used now, third parties' included."""
    return sorted({*_BUILT_IN, *(point.name for point in _third_parties())})


def _third_parties() -> EntryPoints:
    # a tenth of what a command takes to start, and few need it
    from importlib.metadata import entry_points

    return entry_points(group="datasync.transports")


def load(where: str, extra: str, what: str) -> Any:
    """Import an object.

    where: its module and name, as in `module:name`.
    extra: the extra of datasync that installs what it needs.
    what: what it is for, in the error.

    Raises `MissingExtra` where a package is missing.
    """
    module, _, name = where.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{what} needs the module {error.name}; install it with: pip install "
            f"'datasync[{extra}]'"
        ) from None


def _meant(scheme: str) -> str:
    import difflib  # only a misspelt URL needs it

    known = schemes()
    near = difflib.get_close_matches(scheme, known, 1)
    if near:
        return f"did you mean {near[0]}://?"
    return f"this installation knows {', '.join(known)}"


def open_url(text: str) -> Source:
    """Make the Source that a URL names; nothing is connected yet. Raises
    `BadUrl`, `MissingExtra`."""
    url = Url(text)
    if url.scheme in _BUILT_IN:
        factory = load(*_BUILT_IN[url.scheme], f"{url.scheme}://")
    else:
        points = list(_third_parties().select(name=url.scheme))
        if not points:
            raise BadUrl(f"unknown scheme {url.scheme!r}; {_meant(url.scheme)}")
        factory = points[0].load()
    source = url.made(factory)
    assert isinstance(source, Source)
    return source
