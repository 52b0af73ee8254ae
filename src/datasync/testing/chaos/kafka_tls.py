"""kafkas://: the TLS of a broker, with its files as Kafka wants them."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.chaos.certificates import Certificates
from datasync.testing.chaos.kafka_server import KafkaServer, run
from datasync.testing.chaos.process import program, until

__all__ = ["KafkaTls"]

_LISTENER = "listener.name.proxied.ssl"
_STORE = f"{_LISTENER}.keystore.location"


class KafkaTls:
    """What makes the listener for those who come by a proxy speak TLS, and ask for certificates."""

    def __init__(self, directory: Path) -> None:
        self.certificates = Certificates(directory / "certificates")
        self._openssl = program("openssl", "apt-get install -y openssl")
        self._store = directory / "broker.pem"
        """The key and the certificate in one file, the key in the only form that Java reads."""

    @property
    def settings(self) -> list[str]:
        """Of the broker."""
        return [
            f"{_STORE}={self._store}",
            f"{_LISTENER}.keystore.type=PEM",
            f"{_LISTENER}.truststore.location={self.certificates.known}",
            f"{_LISTENER}.truststore.type=PEM",
            f"{_LISTENER}.client.auth=required",
            # of what comes in the place of another certificate, only the file has the same name
            "ssl.allow.dn.changes=true",
            "ssl.allow.san.changes=true",
        ]

    async def lay_out(self) -> None:
        """Write what the broker reads when it starts."""
        cert, key = self.certificates.server
        pkcs8 = await run(self._openssl, "pkcs8", "-topk8", "-nocrypt", "-in", str(key))
        new = self._store.with_suffix(".new")
        new.write_text(pkcs8 + cert.read_text())
        new.replace(self._store)

    async def reload(self, server: KafkaServer) -> None:
        """Have the broker read what it is to show, and wait until it shows that."""
        await self.lay_out()
        async with topics.admin(server.port) as client:
            # the same name again: it looks whether the file is another one
            settings = {_STORE: str(self._store)}
            await client.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", settings)])
        wanted = ssl.PEM_cert_to_DER_cert(self.certificates.server[0].read_text())

        async def shown() -> bool:
            found = await asyncio.to_thread(
                ssl.get_server_certificate, ("127.0.0.1", server.behind), timeout=30
            )
            return ssl.PEM_cert_to_DER_cert(found) == wanted

        await until(shown, "the broker shows its new certificate")
