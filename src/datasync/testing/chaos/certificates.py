"""TLS whose files are renewed under the same names, and for a while are such as nobody accepts."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from datasync.testing.chaos.authority import Authority
from datasync.testing.chaos.process import program
from datasync.testing.chaos.proxy import TcpProxy
from datasync.testing.chaos.store import Fault

__all__ = ["Certificates"]

_SIDES = ("server", "client")


async def _reads_by_itself() -> None: ...


class Certificates:
    """The files of a server and of its clients, in a directory of its own.

    A server asks for certificates of either of two authorities, one of which its
    clients know; a third is foreign.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._used = directory / "used"
        openssl = program("openssl", "apt-get install -y openssl")
        self._authorities = [Authority(openssl, directory / name) for name in ("ours", "theirs")]
        self._foreign = Authority(openssl, directory / "foreign")
        for authority in (*self._authorities, self._foreign):
            for side in _SIDES:
                authority.issue(side)
                authority.issue(f"expired-{side}", days=-1)

        self._used.mkdir()
        self.known = directory / "known.pem"
        """The authorities that a server asks its clients for; never
        renewed, for etcd reads it once."""
        self.known.write_bytes(
            b"".join(authority.ca.read_bytes() for authority in self._authorities)
        )
        self._issuer = self._authorities[0]
        self._renew(self._issuer)

    @property
    def server(self) -> tuple[Path, Path]:
        """What a server shows, and its key."""
        return self._used / "server.pem", self._used / "server.key"

    @property
    def client(self) -> str:
        """The options of a URL: the authority to trust, and the certificate to show."""
        files = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
        return "&".join(f"{option}={self._used / name}" for option, name in files.items())

    def faults(
        self, proxy: TcpProxy, reload: Callable[[], Awaitable[object]] = _reads_by_itself
    ) -> dict[str, Fault]:
        """Each of them shows at the next connections. `reload`: has the server read its files,
        where it does not do so for each connection."""

        async def renewed(rng: random.Random, seconds: float) -> None:
            self._issuer = rng.choice(self._authorities)
            self._renew(self._issuer)
            await reload()
            proxy.cut()

        async def unacceptable(
            rng: random.Random, wrong: Authority, prefix: str, seconds: float
        ) -> None:
            side = rng.choice(_SIDES)
            self._put(side, wrong, f"{prefix}{side}")
            await reload()
            proxy.cut()
            try:
                await asyncio.sleep(seconds)
            finally:
                self._put(side, self._issuer, side)
                await reload()
            proxy.cut()

        async def foreign(rng: random.Random, seconds: float) -> None:
            await unacceptable(rng, self._foreign, "", seconds)

        async def expired(rng: random.Random, seconds: float) -> None:
            await unacceptable(rng, self._issuer, "expired-", seconds)

        # a server that begins in between would find files that do not belong together
        return {
            "certificates renewed": Fault("server", 2, renewed),
            "foreign certificate": Fault("server", 2, foreign),
            "expired certificate": Fault("server", 2, expired),
        }

    def _renew(self, issuer: Authority) -> None:
        """Put all files of another authority in place, which belong together
        once the last of them is there."""
        self._replace([("ca.pem", issuer.ca)])
        for side in _SIDES:
            self._put(side, issuer, side)

    def _put(self, side: str, issuer: Authority, name: str) -> None:
        self._replace([(f"{side}.pem", issuer.cert(name)), (f"{side}.key", issuer.key(name))])

    def _replace(self, files: Sequence[tuple[str, Path]]) -> None:
        for name, source in files:
            new = self._used / "new"
            shutil.copyfile(source, new)
            os.replace(new, self._used / name)
