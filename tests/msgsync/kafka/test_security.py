"""TLS and passwords, on a broker that asks for both."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from datasync import DataSync, Unauthorized, open_url
from datasync.source import Put
from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.contract import eventually
from tests.helpers.certificates import Authority
from tests.helpers.kafka.kafka_server import KafkaServer
from tests.helpers.leaks import leaves_nothing, refused, undisturbed
from tests.helpers.load import QUICK
from tests.helpers.servers import require, started

PASSWORD = "pass/word: @1"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required"

pytestmark = [pytest.mark.once, pytest.mark.alone("brokers")]


class Guarded(KafkaServer):
    """A broker that speaks TLS with its clients and asks them for a password;
    those who come by its proxy are asked for a certificate instead.
    """

    def __init__(self, directory: Path) -> None:
        openssl = require("openssl", "apt-get install -y openssl")
        authority = Authority(openssl, directory / "certificates")
        authority.issue("broker")
        authority.issue("client")
        authority.issue("expired", days=-1)
        self.authority, self.foreign = authority, Authority(openssl, directory / "foreign")
        self.foreign.issue("client")
        self.ca = authority.ca
        key = subprocess.run(
            [openssl, "pkcs8", "-topk8", "-nocrypt", "-in", authority.key("broker")],
            capture_output=True,
            check=True,
        ).stdout
        store = directory / "broker.pem"
        store.write_bytes(key + authority.cert("broker").read_bytes())
        mechanisms = ("SCRAM-SHA-256", "SCRAM-SHA-512")
        super().__init__(
            directory,
            protocol="SASL_SSL",
            proxied="SSL",
            settings=[
                "connection.failed.authentication.delay.ms=0",
                "listener.name.proxied.ssl.client.auth=required",
                "listener.name.proxied.ssl.truststore.type=PEM",
                f"listener.name.proxied.ssl.truststore.location={authority.ca}",
                "ssl.keystore.type=PEM",
                f"ssl.keystore.location={store}",
                f"sasl.enabled.mechanisms=PLAIN,{','.join(mechanisms)}",
                f'listener.name.clients.plain.sasl.jaas.config={_PLAIN} user_alice="{PASSWORD}";',
                *(
                    f"listener.name.clients.{mechanism.lower()}.sasl.jaas.config={_SCRAM};"
                    for mechanism in mechanisms
                ),
            ],
            scram=[f'{mechanism}=[name=alice,password="{PASSWORD}"]' for mechanism in mechanisms],
        )

    def url_of(self, topic: str, query: str, password: str = PASSWORD) -> str:
        return f"kafkas://alice:{quote(password, safe='')}@127.0.0.1:{self.port}/{topic}?{query}"

    def url_shown(
        self, topic: str, shown: tuple[Authority, str] | None, host: str = "127.0.0.1"
    ) -> str:
        """Of its proxy, with that certificate of that authority."""
        query = f"ca={self.ca}"
        if shown is not None:
            authority, name = shown
            query += f"&cert={authority.cert(name)}&key={authority.key(name)}"
        return f"kafkas://{host}:{self.proxied}/{topic}?{query}"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with started(Guarded) as server:
        yield server


@pytest.mark.parametrize("sasl", ["plain", "scram-sha-256", "scram-sha-512"])
def test_tls_and_a_password(guarded: Guarded, sasl: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(guarded.inner, topic)
        async with DataSync(guarded.url_of(topic, f"ca={guarded.ca}&sasl={sasl}")) as sync:
            view = sync.view("")
            await view.at_least(0)
            await sync.put("a/1", b"1")
            await sync.txn().put("a/2", b"2").put("a/3", b"3").commit()
            await eventually(lambda: view.get("a/3") == b"3")
            assert PASSWORD not in repr(sync.status())

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("sasl", ["plain", "scram-sha-256"])
def test_a_wrong_password_ends_the_start(guarded: Guarded, sasl: str) -> None:
    async def main() -> None:
        sync = DataSync(
            guarded.url_of("t", f"ca={guarded.ca}&sasl={sasl}", "wrong secret"), **QUICK
        )
        with pytest.raises(
            Unauthorized, match="check the user and password of the URL, and sasl="
        ) as caught:
            await sync.start()
        assert "wrong secret" not in str(caught.value)

    asyncio.run(main())


def test_starts_that_are_refused_leave_nothing(guarded: Guarded) -> None:
    """G12: see `tests/test_leaks.py`."""
    urls = [
        guarded.url_of("t", f"ca={guarded.ca}&sasl={sasl}", "wrong")
        for sasl in ("plain", "scram-sha-256")
    ]
    with undisturbed():
        asyncio.run(
            leaves_nothing(
                refused([*urls, guarded.url_of("t", "")]), 60, collected=True, what="refused starts"
            )
        )


def test_a_certificate_of_nobody_known_ends_the_start(guarded: Guarded) -> None:
    async def main() -> None:
        with pytest.raises(Unauthorized, match=r"not trusted.*\?ca=file"):
            await DataSync(guarded.url_of("t", ""), **QUICK).start()

    asyncio.run(main())


def test_a_certificate_that_the_broker_wants(guarded: Guarded) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(guarded.inner, topic)
        async with (
            guarded.proxy() as proxy,
            DataSync(guarded.url_shown(topic, (guarded.authority, "client"))) as sync,
        ):
            view = sync.view("")
            await view.at_least(0)
            await sync.txn().put("a/1", b"1").put("a/2", b"2").commit()
            await eventually(lambda: len(view) == 2)
            proxy.cut()  # and they show it again at the next connection
            async with topics.producer(guarded.inner) as plain:
                await plain.send_and_wait(topic, b"3", b"a/3")
            await eventually(lambda: len(view) == 3)

    asyncio.run(main())


@pytest.mark.parametrize("shown", ["", "foreign", "expired"])
def test_a_certificate_that_the_broker_turns_away_ends_the_start(
    guarded: Guarded, shown: str
) -> None:
    certificates = {
        "foreign": (guarded.foreign, "client"),
        "expired": (guarded.authority, "expired"),
    }

    async def main() -> None:
        async with guarded.proxy():
            url = guarded.url_shown("t", certificates.get(shown))
            with pytest.raises(
                Unauthorized, match=r"turned .* away, or wants one \(.+\); name one .*\?cert="
            ) as caught:
                await DataSync(url, **QUICK).start()
            assert "\n" not in str(caught.value)

    asyncio.run(main())


def test_a_broker_that_is_called_by_another_name_ends_the_start(guarded: Guarded) -> None:
    async def main() -> None:
        async with guarded.proxy():
            url = guarded.url_shown("t", (guarded.authority, "client"), "localhost")
            with pytest.raises(
                Unauthorized, match=r"made out to another host .*; name the host as its certificate"
            ):
                await DataSync(url, **QUICK).start()

    asyncio.run(main())


def test_renewed_authorities_are_used_at_the_next_connection(
    guarded: Guarded, tmp_path: Path
) -> None:
    async def main() -> None:
        topic, foreign = (
            topics.new_name(),
            Authority(require("openssl", "apt-get install -y openssl"), tmp_path / "f"),
        )
        await topics.make(guarded.inner, topic)
        ca = tmp_path / "ca.pem"
        ca.write_bytes(foreign.ca.read_bytes())
        source = open_url(guarded.url_of(topic, f"ca={ca}"))
        with pytest.raises(Unauthorized, match="not trusted"):
            await source.commit([Put("a/1", b"1")])
        ca.write_bytes(guarded.ca.read_bytes())
        await source.commit([Put("a/1", b"1")])
        await source.aclose()

    asyncio.run(main())


def test_a_client_without_tls_is_told_to_check_that(guarded: Guarded) -> None:
    async def main() -> None:
        async with DataSync(f"kafka://127.0.0.1:{guarded.port}/t", **QUICK) as sync:
            # on a busy machine the broker may not have hung up before the time of the first try was
            # over
            await eventually(
                lambda: "whether it wants TLS" in (sync.status().sources[0].error or ""), 60
            )

    asyncio.run(main())


def test_tls_with_a_broker_that_has_none_says_so(server: KafkaServer) -> None:
    async def main() -> None:
        async with DataSync(f"kafkas://127.0.0.1:{server.port}/t?timeout=2", **QUICK) as sync:
            assert sync.status().sources[0].error

    asyncio.run(main())
