"""kafka://: one broker behind a proxy, and a topic with one partition."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.chaos.kafka_server import KafkaServer
from datasync.testing.chaos.process import Missing, program
from datasync.testing.chaos.proxy import Kafka, TcpProxy
from datasync.testing.chaos.store import Begin, Log, Proxied, line_faults, process_faults

__all__ = ["KafkaStore"]

_PLACES = ("/opt/kafka/libs", "/usr/share/kafka/libs", "/usr/share/java/kafka")


def _jars() -> Path:
    """The folder with the broker's jars. Raises `Missing`."""
    named = os.environ.get("DATASYNC_KAFKA_JARS")
    brought = sorted(Path(".cache/kafka").glob("*/"), reverse=True)  # where the tests of datasync put them
    for place in [Path(named)] if named else [*brought, *map(Path, _PLACES)]:
        if list(place.glob("kafka*.jar")):
            return place.resolve()
    raise Missing("Kafka is missing; unpack it to /opt/kafka, or name the folder of its jars in DATASYNC_KAFKA_JARS")


class KafkaStore(Proxied):
    """Its log is the topic as a plain client reads it."""

    singly = True

    def __init__(self) -> None:
        program("java", "apt-get install -y default-jre-headless")
        jars = _jars()
        self._directory = Path(tempfile.mkdtemp(prefix="datasync-chaos-"))
        self._server = server = KafkaServer(jars, self._directory)
        self.proxy = proxy = TcpProxy(server.behind, Kafka)
        proxy.port = server.proxied
        self._topic = "chaos"
        self._seen = 0
        self.version = f"Kafka {jars.name}"
        self.faults = line_faults(proxy) | process_faults(server)
        self.renewals = {"the topic made anew": self._renew}
        self.left_out = {
            "compaction": "the cleaner takes records away before the account has read them",
            "transactions": "a plain client does not tell which records were written together",
            "clock steps": "the clock of the machine is not this command's to set",
        }

    async def start(self) -> None:
        await self._server.start()
        await topics.make(self._server.port, self._topic)
        await self.proxy.start()
        self.url = f"kafka://127.0.0.1:{self.proxy.port}/{self._topic}?timeout=3"
        self.direct = f"kafka://127.0.0.1:{self._server.port}/{self._topic}?timeout=3"

    async def aclose(self) -> None:
        await self.proxy.aclose()
        self._server.end()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def begin(self) -> Begin:
        name = await topics.id_of(self._server.port, self._topic)
        items: dict[str, tuple[str, bytes, int]] = {}
        self._seen = 0
        for offset, changes in await self.log():
            for key, raw in changes.items():
                if raw is None:
                    items.pop(key, None)
                else:
                    items[key] = (key, raw, offset)
        return Begin(name, max(0, self._seen - 1), list(items.values()))

    async def log(self) -> Log:
        records = (await topics.history(self._server.port, self._topic))[0]
        log = [(offset, {(key or b"").decode(): raw}) for offset, key, raw in records if offset >= self._seen]
        self._seen = max([self._seen, *(offset + 1 for offset, _ in log)])
        return log

    async def state(self) -> tuple[Mapping[str, bytes], int]:
        return await topics.everything(self._server.port, self._topic), max(0, self._seen - 1)

    async def _renew(self) -> None:
        await topics.delete(self._server.port, self._topic)
        await topics.make(self._server.port, self._topic)
