"""One Kafka broker as a process: Apache Kafka's own, from its jars."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

from datasync.testing.chaos.ports import free_ports
from datasync.testing.chaos.process import Process, answers
from datasync.testing.chaos.proxy import Kafka, TcpProxy

__all__ = ["KafkaServer", "java", "run"]

_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"  # any 16 bytes in base64
_JAVA = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
_SETTINGS = {
    # one partition of each internal topic, and nothing that waits for the sake of throughput
    "offsets.topic.num.partitions": 1,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.num.partitions": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "group.initial.rebalance.delay.ms": 0,
    "auto.create.topics.enable": "false",
    "num.network.threads": 2,
    "num.io.threads": 4,
    "log.cleaner.dedupe.buffer.size": 4 << 20,
    "log.cleaner.backoff.ms": 100,
    "log.initial.task.delay.ms": 100,
    "log.retention.check.interval.ms": 500,
    "file.delete.delay.ms": 0,
    "controller.quorum.election.timeout.ms": 500,
    "controller.quorum.fetch.timeout.ms": 1000,
    "broker.session.timeout.ms": 5000,  # shorter, and a machine that is busy loses its only broker
    "broker.heartbeat.interval.ms": 200,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
}  # fmt: skip
_layouts: dict[tuple[object, ...], dict[str, bytes]] = {}
"""The files that a broker's directory begins with, for each kind of broker."""
_LOGGING = """<Configuration status="OFF">
  <Appenders>
    <Console name="out"><PatternLayout pattern="%d{ISO8601} %p %c %m%n"/></Console>
  </Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


def java(jars: Path, directory: Path, main: str, *args: str) -> list[str]:
    """The command that runs a class of the jars; what it needs beside them
    is written to the directory."""
    logging = directory / "log4j2.xml"
    logging.write_text(_LOGGING)
    quiet = f"-Dlog4j2.configurationFile={logging}"
    archive = class_archive(jars)
    shared = [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []
    return [shutil.which("java") or "java", *_JAVA, *shared, quiet, "-cp", f"{jars}/*", main, *args]


def class_archive(jars: Path) -> Path:
    """Where the classes of a broker lie as the JVM has them in memory, if somebody made that."""
    return jars.with_name(f"{jars.name}.jsa")


class KafkaServer(Process):
    """One broker, which is a controller too.

    `port` is that of its clients, who speak `protocol`; those who come by `proxy` stay on it, and
    speak `proxied`; `inner` asks nobody for a certificate or user.
    """

    def __init__(
        self,
        jars: Path,
        directory: Path,
        *,
        node: int = 1,
        voters: str | None = None,
        controller: int | None = None,
        protocol: str = "PLAINTEXT",
        proxied: str = "PLAINTEXT",
        settings: Sequence[str] = (),
        scram: Sequence[str] = (),
    ) -> None:
        port, self.behind, self.inner, self.proxied = free_ports(4)
        controller = controller or free_ports(1)[0]

        self.data = directory / f"data-{port}"
        self._properties = directory / f"{port}.properties"
        self._scram = scram
        self._kind = (node, *scram)

        # (name, protocol, port, the port that its clients are told)
        listeners = [
            ("CLIENTS", protocol, port, port),
            ("PROXIED", proxied, self.behind, self.proxied),
            ("INNER", "PLAINTEXT", self.inner, self.inner),
        ]

        protocols = [f"{name}:{security}" for name, security, _, _ in listeners]
        heard = [f"{name}://127.0.0.1:{at}" for name, _, at, _ in listeners]
        told = [f"{name}://127.0.0.1:{at}" for name, _, _, at in listeners]

        lines = [
            "process.roles=broker,controller",
            f"node.id={node}",
            f"controller.quorum.voters={voters or f'{node}@127.0.0.1:{controller}'}",
            "controller.listener.names=CONTROLLER",
            "inter.broker.listener.name=INNER",
            f"listener.security.protocol.map=CONTROLLER:PLAINTEXT,{','.join(protocols)}",
            f"listeners=CONTROLLER://127.0.0.1:{controller},{','.join(heard)}",
            f"advertised.listeners={','.join(told)}",
            f"log.dirs={self.data}",
            *(f"{name}={value}" for name, value in _SETTINGS.items()),
            *settings,
        ]

        self._properties.write_text("\n".join(lines) + "\n")
        self._jars = jars
        super().__init__(
            java(jars, directory, "kafka.Kafka", str(self._properties)), port, directory
        )

    @contextlib.asynccontextmanager
    async def proxy(self) -> AsyncIterator[TcpProxy]:
        """A proxy that stays between the broker and those who connect to its port."""
        proxy = TcpProxy(self.behind, Kafka)
        proxy.port = self.proxied
        await proxy.start()
        try:
            yield proxy
        finally:
            await proxy.aclose()

    @property
    def url(self) -> str:
        """For a DataSync, but for the topic."""
        return f"kafka://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it takes requests."""
        if not self.data.exists():
            await self._format()
        await super().start()
        for port in (self.behind, self.inner):  # each of its listeners begins by itself
            await self.comes_to(partial(answers, port), f"{port} listens")

    async def _format(self) -> None:
        """Lay out its directory; by Kafka's own tool once, which takes as
        long as a broker does to start."""
        layout = _layouts.get(self._kind)
        if layout is None:
            scram = [argument for line in self._scram for argument in ("--add-scram", line)]
            words = ["format", "-t", _CLUSTER, "-c", str(self._properties), *scram]
            await run(*java(self._jars, self.data.parent, "kafka.tools.StorageTool", *words))
            _layouts[self._kind] = {
                path.name: path.read_bytes() for path in self.data.iterdir() if path.is_file()
            }
            return
        self.data.mkdir()
        for name, content in layout.items():
            (self.data / name).write_bytes(content)


async def run(*command: str, said: bytes = b"") -> str:
    """What a program answers to `said`; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    answer, _ = await process.communicate(said)
    assert process.returncode == 0, answer.decode()[-2000:]
    return answer.decode()
