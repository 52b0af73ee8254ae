"""What is wrong with a certificate has one name, and one way out,
on every transport that speaks TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from datasync import DataSync, Unauthorized
from datasync.certificates import server_not_accepted
from datasync.endpoints import TlsFiles
from tests.helpers.certificates import Authority
from tests.helpers.etcd.etcd_server import DEBIAN, EtcdServer, tls_flags
from tests.helpers.redis.redis_server import RedisServer, Tls
from tests.helpers.servers import require, started

Run = Callable[[Any], None]

TRANSPORTS = [
    "https://{}",
    "grpcs://{}",
    "grpcs+watch://{}",
    "etcds://{}",
    "rediss://{}",
    "kafkas://{}/topic",
]
ACCEPTED = "its certificate was not accepted: "
TURNED_AWAY = r"it turned this client's certificate away, or wants one \((.*)\); name one that it trusts with \?cert="


class Certificates:
    """Two authorities, of which one is trusted, and a certificate for each fault."""

    def __init__(self, directory: Path) -> None:
        openssl = require("openssl", "apt-get install -y openssl")
        self.ours, self.foreign = (
            Authority(openssl, directory / "ours"),
            Authority(openssl, directory / "foreign"),
        )
        for authority in (self.ours, self.foreign):
            authority.issue("server")
            authority.issue("client")
        self.ours.issue("expired", days=-1)
        self.ours.issue("elsewhere", subject="IP:127.0.0.2,DNS:elsewhere.example")

    def server(self, name: str) -> TlsFiles:
        """What a server shows."""
        if name == "self-signed":
            return TlsFiles(None, self.foreign.ca, self.foreign.ca.with_suffix(".key"))
        authority = self.foreign if name == "foreign" else self.ours
        name = "server" if name == "foreign" else name
        return TlsFiles(None, authority.cert(name), authority.key(name))

    def client(self, name: str) -> str:
        """The query of a URL that trusts the authority, and shows a certificate."""
        query = f"ca={self.ours.ca}"
        if name:
            authority = self.foreign if name == "foreign" else self.ours
            name = "client" if name == "foreign" else name
            query += f"&cert={authority.cert(name)}&key={authority.key(name)}"
        return query


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@contextlib.asynccontextmanager
async def serving(files: TlsFiles, wants: Path | None = None) -> AsyncIterator[str]:
    """The address of a server that speaks TLS, and says nothing once both
    sides accept each other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert files.cert is not None
    context.load_cert_chain(files.cert, files.key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if wants is not None:
        context.load_verify_locations(wants)
        context.verify_mode = ssl.CERT_REQUIRED

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def told(url: str) -> str:
    """What the start says."""
    with pytest.raises(Unauthorized) as raised:
        await asyncio.wait_for(DataSync(url).start(), 60)
    text = str(raised.value)
    assert "\n" not in text
    return text


FAULTS = {
    "expired": ("it has expired", "renew it"),
    "elsewhere": ("it is made out to another host", "name the host as its certificate does"),
    "self-signed": ("it is self-signed", r"\?ca=file"),
    "foreign": ("its authority is unknown", r"\?ca=file"),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_servers_certificate(
    run: Run, certificates: Certificates, transport: str, fault: str
) -> None:
    name, way_out = FAULTS[fault]

    async def main() -> None:
        async with serving(certificates.server(fault)) as address:
            text = await told(f"{transport.format(address)}?{certificates.client('')}")
            assert f"{address}: {ACCEPTED}{name}" in text
            assert re.search(way_out, text), text

    run(main())


CLIENTS = {
    "": "certificate required|none was shown",
    "foreign": "unknown ca|hangs up",
    "expired": "certificate expired|hangs up",
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("shown", CLIENTS)
def test_a_clients_certificate(
    run: Run, certificates: Certificates, transport: str, shown: str
) -> None:
    async def main() -> None:
        async with serving(certificates.server("server"), wants=certificates.ours.ca) as address:
            text = await told(f"{transport.format(address)}?{certificates.client(shown)}")
            assert re.search(TURNED_AWAY, text), text
            assert re.search(CLIENTS[shown], text), text

    run(main())


# -- the same on real servers ----------------------------------------------------------------------


class Real(NamedTuple):
    """A server that asks its clients for a certificate. `show`: has it show another one itself."""

    url: str
    show: Callable[[TlsFiles], None]


@pytest.fixture(scope="module", params=["rediss", "etcds"])
def real(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Real]:
    ours = certificates.ours

    def put(files: TlsFiles) -> None:
        assert files.cert is not None
        assert files.key is not None
        shutil.copyfile(files.cert, ours.cert("shown"))
        shutil.copyfile(files.key, ours.key("shown"))

    put(certificates.server("server"))
    if request.param == "etcds":  # which reads them for each connection
        with started(
            lambda directory: EtcdServer(DEBIAN, directory, tls=tls_flags(ours, "shown"))
        ) as etcd:
            yield Real(f"etcds://127.0.0.1:{etcd.port}", put)
        return

    with started(lambda directory: RedisServer(directory, tls=Tls(ours, "shown"))) as redis:
        told = ("tls-cert-file", str(ours.cert("shown")), "tls-key-file", str(ours.key("shown")))

        def show(files: TlsFiles) -> None:
            put(files)
            asyncio.run(redis.do("CONFIG", "SET", *told))

        yield Real(f"rediss://127.0.0.1:{redis.port}", show)


@pytest.mark.once
@pytest.mark.parametrize("fault", FAULTS)
def test_the_certificate_of_a_real_server(
    real: Real, certificates: Certificates, fault: str
) -> None:
    name, way_out = FAULTS[fault]
    real.show(certificates.server(fault))
    try:
        text = asyncio.run(told(f"{real.url}?{certificates.client('client')}"))
    finally:
        real.show(certificates.server("server"))
    assert f"{ACCEPTED}{name}" in text
    assert re.search(way_out, text), text


@pytest.mark.once
@pytest.mark.parametrize("shown", CLIENTS)
def test_the_certificate_of_its_client(real: Real, certificates: Certificates, shown: str) -> None:
    text = asyncio.run(told(f"{real.url}?{certificates.client(shown)}"))
    assert re.search(TURNED_AWAY, text), text
    assert re.search(f"{CLIENTS[shown]}|bad certificate", text), text  # which Go says of all three

    async def accepted() -> None:
        async with DataSync(f"{real.url}?{certificates.client('client')}") as sync:
            await sync.put("a/1", b"1")
            found = await sync.get("a/1")
            assert found is not None
            assert found.value == b"1"

    asyncio.run(accepted())


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        ("certificate has expired", "it has expired"),
        ("certificate is not yet valid", "it is not valid yet"),
        ("Hostname mismatch, certificate is not valid for 'a'.", "another host"),
        ("IP address mismatch, certificate is not valid for '::1'.", "another host"),
        ("self-signed certificate", "self-signed"),
        ("self signed certificate", "self-signed"),
        ("self-signed certificate in certificate chain", "its authority is unknown"),
        ("unable to get local issuer certificate", "its authority is unknown"),
        ("unable to verify the first certificate", "its authority is unknown"),
        ("certificate revoked", "it was revoked"),
        ("unsuitable certificate purpose", "not issued for a server"),
        ("", "it could not be verified"),
        ("something else", "something else"),
    ],
)
def test_the_names_of_faults(message: str, meaning: str) -> None:
    text = server_not_accepted(message)
    assert text.startswith("its certificate was not accepted")
    assert meaning in text
    assert "; " in text
