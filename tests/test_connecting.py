"""The same fault is the same error on every transport: its class, what it says, and the way out."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from datasync import BadStore, BadUrl, DataSync, DataSyncError, Disconnected, Unauthorized, open_url
from datasync.cli import main as command
from tests.helpers.etcd.etcd_server import DEBIAN, EtcdServer
from tests.helpers.kafka.kafka_server import KafkaServer
from tests.helpers.redis.redis_server import RedisServer
from tests.helpers.servers import free_ports, listening, started

Run = Callable[[Any], None]

PLAIN = [
    "etcd://{}", "redis://{}", "redis+sentinel://{}/main", "redis+cluster://{}",
    "kafka://{}/topic", "grpc+watch://{}", "http://{}",
]  # fmt: skip
TLS = ["etcds://{}", "rediss://{}", "kafkas://{}/topic", "grpcs+watch://{}", "https://{}"]
CLIENTS = PLAIN + TLS
AGENTS = ["rest://{}", "grpc://{}"]
NAMES = {"etcd": "etcd", "redis": "Redis", "kafka": "Kafka", "grpc": "datasync", "http": "datasync"}


def protocol_of(url: str) -> str:
    """What an error says that the server should be."""
    return next(name for scheme, name in NAMES.items() if url.startswith(scheme))


async def told(url: str, kind: type[DataSyncError], *wanted: str) -> str:
    """What opening a session raises, which is of that kind and says all that is wanted.

    The time is bounded by what the URL says, not by the engine.
    """
    async with asyncio.timeout(60):
        source = open_url(url)
        source.attach(lambda: None, {})
        with pytest.raises(DataSyncError) as raised:
            await source.open(["a/"])
        await source.aclose()

    text = str(raised.value)
    assert isinstance(raised.value, kind), f"{url}: {raised.value!r}"
    assert "\n" not in text
    for pattern in wanted:
        assert re.search(pattern, text), f"{url}: {pattern!r} is not in {text!r}"
    return text


@pytest.mark.parametrize("transport", CLIENTS)
def test_a_name_that_does_not_resolve(run: Run, transport: str) -> None:
    url = transport.format("nowhere.invalid:1234")
    run(
        told(
            url,
            Disconnected,
            r"nowhere\.invalid:1234: the name cannot be resolved; check the address, and the DNS",
        )
    )


@pytest.mark.parametrize("transport", [*CLIENTS, *AGENTS])
@pytest.mark.parametrize("name", ["a..b", "x" * 64, ".test"])
def test_a_name_that_no_host_can_have(transport: str, name: str) -> None:
    with pytest.raises(BadUrl, match=r"is not an? (host|address); write host"):
        open_url(transport.format(f"{name}:1234"))


@pytest.mark.parametrize("transport", [*CLIENTS, *AGENTS])
@pytest.mark.parametrize("host", ["::1", "::1:1234", "[::1", "[1234]:1234", "::"])
def test_an_address_of_ipv6_has_brackets(transport: str, host: str) -> None:
    """Without them nobody could say whether its last part is a port."""
    with pytest.raises(BadUrl, match=r"write (host, host:port or )?(host:port or )?\[ipv6\]:port"):
        open_url(transport.format(host))
    assert "[::1]:1234" in open_url(transport.format("[::1]:1234")).name


@pytest.mark.parametrize("transport", CLIENTS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nobody_listens(run: Run, transport: str, host: str) -> None:
    url = transport.format(f"{host}:{free_ports(1)[0]}")
    run(
        told(
            url,
            Disconnected,
            f": connection refused; check the address, and that {protocol_of(url)} runs there$",
        )
    )


@pytest.mark.parametrize(
    "transport", [*TLS, "rests://{}", "grpcs://{}", "redis+cluster://{}", "redis+sentinel://{}/m"]
)
@pytest.mark.parametrize("named", ["ca={}", "cert={}&key={}"])
def test_a_file_of_tls_that_is_missing(transport: str, named: str, tmp_path: Path) -> None:
    more = "&tls=1" if "+" in transport and transport.startswith("redis") else ""
    path = str(tmp_path / "missing.pem")
    with pytest.raises(BadUrl) as raised:
        open_url(f"{transport.format('127.0.0.1:1234')}?{named.format(path, path)}{more}")
    name = named.partition("=")[0]
    assert f"{name}= names a file that cannot be read: {path} (No such file or directory)" in str(
        raised.value
    )


# -- servers of another kind -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with started(
        lambda directory: RedisServer(directory, extra=["--requirepass", "r1ght"])
    ) as server:
        yield server


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    with started(lambda directory: EtcdServer(DEBIAN, directory)) as server:
        yield server


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaServer]:
    with started(KafkaServer) as server:
        yield server


OTHER_KIND = r"does not answer as {} does|hangs up without an answer|no answer (in time|within)"
WAY_OUT = r"; check (the address, and what stands before it|.*that {} runs there)"


async def all_told(address: str, transports: Sequence[str], *wanted: str) -> None:
    """Of one server, all clients at once: some of them have to wait for an answer
    that does not come.
    """
    urls = [transport.format(address) + "?timeout=1" for transport in transports]
    filled = [[pattern.replace("{}", protocol_of(url)) for pattern in wanted] for url in urls]
    await asyncio.gather(
        *(told(url, Disconnected, *each) for url, each in zip(urls, filled, strict=True))
    )


def others(scheme: str, transports: Sequence[str]) -> list[str]:
    return [transport for transport in transports if not transport.startswith(scheme)]


@pytest.mark.once
def test_a_redis_of_another_url(run: Run, redis: RedisServer) -> None:
    run(all_told(f"127.0.0.1:{redis.port}", others("redis", PLAIN), OTHER_KIND, WAY_OUT))


@pytest.mark.once
def test_an_etcd_of_another_url(run: Run, etcd: EtcdServer) -> None:
    run(all_told(f"127.0.0.1:{etcd.port}", others("etcd", PLAIN), OTHER_KIND, WAY_OUT))


@pytest.mark.once
def test_a_kafka_of_another_url(run: Run, kafka: KafkaServer) -> None:
    async def main() -> None:
        address = f"127.0.0.1:{kafka.port}"
        await all_told(address, others("kafka", PLAIN), OTHER_KIND, WAY_OUT)
        await all_told(address, TLS, r"no TLS handshake \(it hangs up\); .*speaks TLS there")

    run(main())


@contextlib.asynccontextmanager
async def agent(scheme: str, token: str = "") -> AsyncIterator[str]:
    """The address of an agent of ours."""
    [port] = free_ports(1)
    sync = DataSync(f"{scheme}://127.0.0.1:{port}?initial=empty{token}")
    sync.watcher("")(lambda event: None)
    async with sync:
        yield f"127.0.0.1:{port}"


@pytest.mark.parametrize(("scheme", "own"), [("rest", "http"), ("grpc", "grpc")])
def test_an_agent_of_another_url(run: Run, scheme: str, own: str) -> None:
    async def main() -> None:
        async with agent(scheme) as address:
            await all_told(address, others(own, PLAIN), OTHER_KIND, WAY_OUT)
            await all_told(
                address, TLS, r"no TLS handshake \(wrong version number\); .*speaks TLS there"
            )

    run(main())


@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-OpenSSH_9.9\r\n", b"220 mail.test ESMTP\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b""],
)
def test_a_server_of_no_kind_that_is_known(run: Run, said: bytes) -> None:
    """It greets, as SSH and mail do, or sends an alert of TLS, or nothing;
    then it ends the connection.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        await reader.read(1)

    async def main() -> None:
        async with listening(serve) as port:
            await all_told(f"127.0.0.1:{port}", PLAIN, "check ")

    run(main())


# -- passwords and tokens --------------------------------------------------------------------------


async def turned_away(urls: Sequence[str], *wanted: str) -> None:
    for url in urls:
        assert "wr0ng" not in await told(url, Unauthorized, *wanted)
        sync = DataSync(url)
        sync.watch("all", "")
        with pytest.raises(Unauthorized):
            await asyncio.wait_for(sync.start(), 60)


@pytest.mark.once
def test_a_wrong_password(run: Run, redis: RedisServer) -> None:
    """For Kafka, whose broker takes the longest to start,
    `msgsync/kafka/test_security.py` says the same.
    """

    async def main() -> None:
        address = f"127.0.0.1:{redis.port}"
        urls = [f"redis://:wr0ng@{address}", f"redis://agent:wr0ng@{address}", f"redis://{address}"]
        await turned_away(urls, "check the user and password of the URL")

    run(main())


@pytest.mark.once
def test_a_wrong_password_of_etcd(run: Run) -> None:
    with started(lambda directory: EtcdServer(DEBIAN, directory)) as server:

        async def main() -> None:
            await server.ask_for_passwords({"agent": "s3cret"})
            address = f"127.0.0.1:{server.port}"
            urls = [f"etcd://agent:wr0ng@{address}", f"etcd://nobody:wr0ng@{address}"]
            await turned_away(urls, "check the user and password of the URL")
            await turned_away(
                [f"etcd://{address}"], "asks for a user: write user:password@ into the URL"
            )

        run(main())


@pytest.mark.parametrize(
    ("scheme", "client"), [("rest", "http"), ("grpc", "grpc+watch"), ("grpc", "grpc")]
)
def test_a_wrong_token(run: Run, scheme: str, client: str) -> None:
    async def main() -> None:
        async with agent(scheme, "&token=s3cret") as address:
            for query in ("?token=wr0ng", ""):
                sync = DataSync(f"{client}://{address}{query}")
                with pytest.raises(
                    Unauthorized, match=r"wants a token; give \?token= or DATASYNC_TOKEN"
                ) as raised:
                    await asyncio.wait_for(sync.start(), 60)
                assert "wr0ng" not in str(raised.value)

    run(main())


# -- addresses that are taken ----------------------------------------------------------------------

TAKEN = (
    "cannot listen there: address already in use; choose another address, or end what listens there"
)


@pytest.fixture
def taken() -> Iterator[str]:
    """An address at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("transport", AGENTS)
def test_an_agent_whose_port_is_taken(run: Run, taken: str, transport: str) -> None:
    async def main() -> None:
        sync = DataSync(transport.format(taken))
        sync.watch("all", "")
        with pytest.raises(BadStore, match=TAKEN):
            await asyncio.wait_for(sync.start(), 60)

    run(main())


@pytest.mark.parametrize("transport", AGENTS)
def test_an_agent_at_a_foreign_address(run: Run, transport: str) -> None:
    async def main() -> None:
        for host, why in (
            ("192.0.2.1", "cannot assign requested address"),
            ("nowhere.invalid", "the name cannot be"),
        ):
            sync = DataSync(transport.format(f"{host}:1234") + "?token=s3cret")
            sync.watch("all", "")
            with pytest.raises(BadStore, match=f"cannot listen there: {why}"):
                await asyncio.wait_for(sync.start(), 60)

    run(main())


@pytest.mark.parametrize("option", ["--grpc", "--http"])
def test_a_command_whose_port_is_taken(
    taken: str, option: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(["serve", "memory://", option, taken]) == 1
    error = capfd.readouterr().err
    assert TAKEN in error
    assert error.count("\n") == 1
