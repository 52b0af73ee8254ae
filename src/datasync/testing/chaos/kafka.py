"""kafka:// and kafkas://: one broker behind a proxy, and a topic with one partition."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.chaos.kafka_server import KafkaServer
from datasync.testing.chaos.kafka_tls import KafkaTls
from datasync.testing.chaos.process import program
from datasync.testing.chaos.proxy import Kafka, TcpProxy, Tls
from datasync.testing.chaos.store import Begin, Fault, Log, Proxied, line_faults, process_faults
from datasync.testing.commands import Missing

__all__ = ["KafkaStore"]

_UNTOUCHED: dict[str, Any] = {
    "min_cleanable_dirty_ratio": 0.0001,
    "min_compaction_lag_ms": 2**62,
    "segment_ms": 2**62,
}
"""Settings of a topic that the log cleaner keeps its hands off."""
_RETENTIONS = (2_000, 86_400_000)
"""Milliseconds for which one topic, and the next, keeps the records of deletes: less
than one is away, and more."""
_CLEANING = 20.0
"""Seconds that are waited for the log cleaner."""
_PLACES = ("/opt/kafka/libs", "/usr/share/kafka/libs", "/usr/share/java/kafka")


def _jars() -> Path:
    """The folder with the broker's jars. Raises `Missing`."""
    named = os.environ.get("DATASYNC_KAFKA_JARS")
    # where the tests of datasync put them
    brought = sorted(Path(".cache/kafka").glob("*/"), reverse=True)
    for place in [Path(named)] if named else [*brought, *map(Path, _PLACES)]:
        if list(place.glob("kafka*.jar")):
            return place.resolve()
    raise Missing(
        "Kafka is missing; unpack it to /opt/kafka, or name the folder of its jars in "
        "DATASYNC_KAFKA_JARS"
    )


class KafkaStore(Proxied):
    """Its log is the topic as a plain client reads it."""

    singly = True
    agents = True

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        program("java", "apt-get install -y default-jre-headless")
        jars = _jars()
        self._directory = directory = Path(tempfile.mkdtemp(prefix="datasync-chaos-"))

        self._tls = tls = KafkaTls(directory) if scheme == "kafkas" else None
        self._server = server = (
            KafkaServer(jars, directory)
            if tls is None
            else KafkaServer(jars, directory, proxied="SSL", settings=tls.settings)
        )

        self.logs = [server.log]
        self.proxy = proxy = TcpProxy(server.behind, Kafka if tls is None else Tls)
        proxy.port = server.proxied

        self._topic = "chaos"
        self._seen = 0
        self._kept: list[tuple[int, Mapping[str, bytes | None]]] = []
        self._retentions = itertools.cycle(_RETENTIONS)

        self.version = f"Kafka {jars.name}"
        self.faults = line_faults(proxy) | process_faults(server) | {
            "compaction": Fault("server", 3, self._compact),
        }  # fmt: skip
        if tls is not None:
            self.faults |= tls.certificates.faults(proxy, partial(tls.reload, server))

        self.renewals = {"the topic recreated": self._renew}
        self.left_out = {
            "transactions": "a plain client does not tell which records were written together",
            "clock steps": "the clock of the machine is not this command's to set",
        }

    async def start(self) -> None:
        if self._tls is not None:
            await self._tls.lay_out()
        await self._server.start()
        await self._make()
        await self.proxy.start()
        tls = "" if self._tls is None else f"&{self._tls.certificates.client}"
        self.url = f"{self._scheme}://127.0.0.1:{self.proxy.port}/{self._topic}?timeout=3{tls}"
        self.direct = f"kafka://127.0.0.1:{self._server.port}/{self._topic}?timeout=3"

    async def aclose(self) -> None:
        await self.proxy.aclose()
        self._server.end()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def begin(self) -> Begin:
        name = await topics.id_of(self._server.port, self._topic)
        items: dict[str, tuple[str, bytes, int]] = {}
        self._seen = 0
        self._kept.clear()
        for offset, changes in await self.log():
            for key, raw in changes.items():
                if raw is None:
                    items.pop(key, None)
                else:
                    items[key] = (key, raw, offset)
        return Begin(name, max(0, self._seen - 1), list(items.values()))

    async def log(self) -> Log:
        await self._keep()
        log = list(self._kept)
        self._kept.clear()
        return log

    async def state(self) -> tuple[Mapping[str, bytes], int]:
        return await topics.everything(self._server.port, self._topic), max(0, self._seen - 1)

    async def _keep(self) -> None:
        """Take over the records as far as they go now."""
        records = (await topics.history(self._server.port, self._topic))[0]
        self._kept += [
            (offset, {(key or b"").decode(): raw})
            for offset, key, raw in records
            if offset >= self._seen
        ]
        self._seen = max([self._seen, *(offset + 1 for offset, _ in self._kept)])

    async def _compact(self, rng: random.Random, seconds: float) -> None:
        """Have the log cleaner do its work on what the account has read.

        It never touches the last segment. So a new one is begun, what lies before it is read, and
        only then does the cleaner get leave, for as long as no other segment begins.
        """
        begun = max(self._segments())
        await self._set(segment_ms=1)
        last = await self._within(lambda: max(self._segments()) > begun)
        await self._set()
        if not last:  # nobody could write
            return
        until = max(self._segments())
        await self._keep()
        await self._set(min_compaction_lag_ms=0)
        await self._within(lambda: self._cleaned() >= until)
        await asyncio.sleep(seconds)
        await self._set()

    async def _set(self, **settings: int) -> None:
        """Have the topic as it is but for these settings."""
        await topics.alter(self._server.port, self._topic, **self._settings | settings)

    def _segments(self) -> list[int]:
        """The first offset of each segment."""
        directory = self._server.data / f"{self._topic}-0"
        return [int(path.stem) for path in directory.glob("*.log") if path.stem.isdecimal()]

    def _cleaned(self) -> int:
        """The offset up to which the log cleaner has done its work."""
        lines = (self._server.data / "cleaner-offset-checkpoint").read_text().splitlines()
        places = dict(line.rsplit(" ", 1) for line in lines if line.startswith(f"{self._topic} 0 "))
        return int(places.get(f"{self._topic} 0", 0))

    async def _within(self, condition: Callable[[], bool]) -> bool:
        """Whether it came true while one may wait for it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CLEANING
        while not (true := condition()):
            if loop.time() > deadline:
                break
            await asyncio.sleep(0.05)
        return true

    async def _make(self) -> None:
        self._settings = _UNTOUCHED | {"delete_retention_ms": next(self._retentions)}
        await topics.make(self._server.port, self._topic, **self._settings)

    async def _renew(self) -> None:
        await topics.delete(self._server.port, self._topic)
        await self._make()
