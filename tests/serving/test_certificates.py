"""G8: the files of TLS are read for each connection, on both sides;
the start says who is not accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasync import DataSync, Unauthorized
from datasync.testing.chaos.proxy import proxy_to
from datasync.testing.contract import eventually
from tests.helpers.certificates import Authority
from tests.helpers.load import QUICK, written
from tests.helpers.servers import free_ports, require

Run = Callable[[Any], None]
SCHEMES = [("rests", "https"), ("grpcs", "grpcs+watch")]


def issued(directory: Path) -> Authority:
    """An authority, with a certificate for the server and one for the client."""
    authority = Authority(require("openssl", "apt-get install -y openssl"), directory)
    authority.issue("server")
    authority.issue("client")
    return authority


def query(directory: Path, name: str) -> str:
    """What shows that certificate, and trusts the authority."""
    return f"?ca={directory / 'ca.pem'}&cert={directory / f'{name}.pem'}&key={directory / f'{name}.key'}"


@pytest.mark.parametrize(("agent", "client"), SCHEMES)
def test_certificates_that_are_renewed_under_the_same_names(
    run: Run, tmp_path: Path, agent: str, client: str
) -> None:
    first, second = issued(tmp_path / "first"), issued(tmp_path / "second")
    used = tmp_path / "used"
    shutil.copytree(first.ca.parent, used)
    [port] = free_ports(1)

    async def main() -> None:
        there = DataSync(f"{agent}://127.0.0.1:{port}{query(used, 'server')}&initial=empty")
        there.watch("all", "")
        async with there, proxy_to(port) as proxy:
            url = f"{client}://127.0.0.1:{proxy.port}{query(used, 'client')}"
            async with DataSync(url, **QUICK) as sync:
                view = sync.view()
                revision = await sync.put("a", b"1")
                assert revision is not None
                await view.at_least(revision, timeout=60)

                shutil.copytree(second.ca.parent, used, dirs_exist_ok=True)
                proxy.cut()
                await eventually(lambda: sync.status().sources[0].reconnects)
                revision = await written(sync, "a", b"2", confirm=False)
                assert revision is not None
                await view.at_least(revision, timeout=60)
                assert view["a"] == b"2"

                old = f"{client}://127.0.0.1:{port}{query(first.ca.parent, 'client')}"
                with pytest.raises(
                    Unauthorized, match=r"its certificate was not accepted|no TLS with it"
                ):
                    await asyncio.wait_for(DataSync(old).start(), 60)

    run(main())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("agent", ["rests", "grpcs"])
def test_a_session_of_an_authority_that_is_withdrawn_is_not_resumed(
    run: Run, tmp_path: Path, agent: str, version: ssl.TLSVersion
) -> None:
    """G11: a server asks who resumes a session for no certificate."""
    first, second = issued(tmp_path / "first"), issued(tmp_path / "second")
    used = tmp_path / "used"
    shutil.copytree(first.ca.parent, used)
    [port] = free_ports(1)

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(first.cert("client"), first.key("client"))
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"] if agent == "grpcs" else ["http/1.1"])

    def begin(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None]:
        """What the server says at the beginning, and the session."""
        with (
            socket.create_connection(("127.0.0.1", port), 60) as plain,
            context.wrap_socket(plain, server_hostname="server", session=session) as tls,
        ):
            request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
            tls.sendall(request if agent == "grpcs" else b"GET /v1/status HTTP/1.1\r\n\r\n")
            return tls.recv(1), tls.session

    async def main() -> None:
        there = DataSync(f"{agent}://127.0.0.1:{port}{query(used, 'server')}&initial=empty")
        there.watch("all", "")
        async with there:
            said, session = await asyncio.to_thread(begin, None)
            assert said
            shutil.copytree(second.ca.parent, used, dirs_exist_ok=True)
            with contextlib.suppress(OSError):
                said, _ = await asyncio.to_thread(begin, session)
                assert not said

    run(main())


@pytest.mark.parametrize(("agent", "client"), [*SCHEMES, ("grpcs", "grpcs")])
def test_the_start_says_that_a_certificate_is_not_accepted(
    run: Run, tmp_path: Path, agent: str, client: str
) -> None:
    ours, foreign = issued(tmp_path / "ours"), issued(tmp_path / "foreign")
    [port] = free_ports(1)
    address = f"{client}://127.0.0.1:{port}"

    async def main() -> None:
        there = DataSync(
            f"{agent}://127.0.0.1:{port}{query(ours.ca.parent, 'server')}&initial=empty"
        )
        there.watch("all", "")
        async with there:
            nothing = f"{address}?ca={ours.ca}"
            not_theirs = f"{nothing}&cert={foreign.cert('client')}&key={foreign.key('client')}"
            for url in (nothing, not_theirs):
                with pytest.raises(Unauthorized, match="certificate"):
                    await asyncio.wait_for(DataSync(url).start(), 60)
            wrong_ca = (
                f"{address}?ca={foreign.ca}&cert={ours.cert('client')}&key={ours.key('client')}"
            )
            with pytest.raises(Unauthorized, match=r"certificate|no TLS"):
                await asyncio.wait_for(DataSync(wrong_ca).start(), 60)
            async with DataSync(f"{address}{query(ours.ca.parent, 'client')}") as sync:
                await sync.put("a", b"1")

    run(main())
