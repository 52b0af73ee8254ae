"""URLs: whatever stands in them, they open, or are refused by an error that shows no password."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator

from datasync.errors import UsageError
from datasync.testing.fuzz.door import SECRET, Door, Finding, told, typed
from datasync.transports import open_url, schemes

__all__ = ["door"]

_NASTY = (
    "/?#@:;&=%[]\\\\.,+-_~ aZ09\t\n"
    "\r\x00\x1b\x7f\x85\xa0\u0660\u2028\u2048\u202e\ufeff\uff0f\ufe52\U0001f600\udcff"
)
_SEPARATORS = ("://", "://", "://", "://", ":/", "//", ":", "", ";://", "://://")
_HOSTS = (
    "localhost",
    "127.0.0.1:1",
    "[::1]:1",
    "h1:1,h2:2",
    "h:99999",
    "h:x",
    "",
    "[::1",
    "::1",
    "h:0",
    "h" * 300,
)
_PATHS = (
    "",
    "/",
    "/0",
    "/topic",
    "/a/b",
    "/file.db",
    "/%2e%2e/x",
    "/%00",
    "/" + "a" * 5000,
    "//x",
    "/%",
    "/%zz",
)
_KEYS = (
    "timeout", "token", "ca", "cert", "key", "keep", "sync", "immutable", "initial", "allow",
    "reply", "group", "sasl", "origin", "lease", "", "%", "transactional_id", "expiry", "from",
    "partition", "proxy",
)  # fmt: skip
_VALUES = (
    "1", "0", "-1", "1e400", "nan", "inf", "x", "", "9" * 400, "yes", "full", "empty", "/nowhere",
    "/", "%00", "%ff", "\u0661", "1_000", " 1", "plain", "0x10",
)  # fmt: skip


@contextlib.asynccontextmanager
async def door() -> AsyncIterator[Door]:
    """Needs nothing."""
    known = schemes()

    async def case(rng: random.Random) -> str:
        return _open(_drawn(rng, known))

    async def works() -> None:
        if _open("sqlite:///file.db?keep=5") != "done":
            raise Finding("a good URL is refused")

    yield Door(case, works)


def _open(text: str) -> str:
    with typed(UsageError) as outcome:
        source = open_url(text)
        told(f"{source.name} {source!r} {source}")
    return outcome.name


def _drawn(rng: random.Random, known: list[str]) -> str:
    odd = rng.choice([0.0, 0.1, 1.0])

    def junk(longest: int) -> str:
        return (
            "".join(rng.choice(_NASTY) for _ in range(rng.randint(0, longest)))
            if rng.random() < odd
            else ""
        )

    scheme = (
        rng.choice(known) if rng.random() < 0.9 else rng.choice(["nosuch", "", "x" * 200, junk(3)])
    )
    user = rng.choice(["", "user", "".join(set(junk(2)) - set("/?#@:"))])  # else they end it
    password = f"{user}:{junk(4)}{SECRET}{junk(4)}@" if rng.random() < 0.7 else ""
    host = rng.choice(_HOSTS if odd else _HOSTS[:4]) + junk(2)
    path = rng.choice(_PATHS if odd else _PATHS[:6]) + junk(2)
    query = "&".join(
        f"{rng.choice(_KEYS)}={rng.choice(_VALUES)}{junk(2)}"
        for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 5]))
    )
    separator = rng.choice(_SEPARATORS) if rng.random() < odd else "://"
    return f"{scheme}{separator}{password}{host}{path}{'?' if query else ''}{query}"
