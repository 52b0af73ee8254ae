"""Kafka brokers for tests: Apache Kafka's own, from Maven Central."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from datasync.testing.chaos import kafka_server as kafka_server_process
from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.chaos.kafka_server import run
from tests.helpers.servers import (
    Announce,
    free_ports,
    missing,
    quietly,
    require,
    scratch,
    started,
    until,
)

__all__ = [
    "KafkaServer",
    "all_run",
    "archive",
    "cluster_of_three",
    "jars",
    "java",
    "kafka_server",
    "run",
]

VERSION = "4.1.1"
_ROOT = Path(__file__).parents[3]
_POM = Path(__file__).parent / "pom.xml"


def jars(announce: Announce = quietly) -> Path:
    """The folder with the broker's jars, brought once for all tests on this machine; see `missing`.

    `announce` hears the line that is run where they are to be brought.
    """
    require("java", "apt-get install -y default-jre-headless")
    folder = _ROOT / ".cache" / "kafka" / VERSION
    folder.parent.mkdir(parents=True, exist_ok=True)
    stamp = folder.parent / f"{VERSION}.pom"
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other workers wait for the one that brings them
        if not (stamp.exists() and stamp.read_text() == _POM.read_text()):
            mvn = require("mvn", "apt-get install -y maven")
            command = [
                mvn, "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies",
                "-DincludeScope=runtime", f"-DoutputDirectory={folder}",
            ]  # fmt: skip
            announce(" ".join(command))
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                said = (done.stdout + done.stderr)[-300:].strip()
                missing(f"Kafka {VERSION}", f"{' '.join(command)}  ({said})")
            stamp.write_text(_POM.read_text())
    return folder


def archive(announce: Announce = quietly) -> Path:
    """The classes of a broker as the JVM lays them out, made once:
    with it one starts in half of the work.
    """
    made = kafka_server_process.class_archive(jars())
    # the JVM passes over one that was made of other jars, or of these in another place
    asking = java("-version")
    asking.insert(-1, "-Xshare:on")
    if not made.exists() or subprocess.run(asking, capture_output=True).returncode:
        making = f"-XX:ArchiveClassesAtExit={made}"
        announce(f"java {making} kafka.Kafka")
        made.unlink(missing_ok=True)

        def maker(directory: Path) -> KafkaServer:
            server = KafkaServer(directory)
            server.command.insert(1, making)
            return server

        with started(maker) as server:
            asyncio.run(server.stop())
    return made


def java(main: str, *args: str) -> list[str]:
    """The command that runs a class of the jars."""
    return kafka_server_process.java(jars(), jars().parent, main, *args)


class KafkaServer(kafka_server_process.KafkaServer):
    """One broker, which is a controller too."""

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(jars(), directory, **options)


@contextlib.asynccontextmanager
async def kafka_server() -> AsyncIterator[KafkaServer]:
    """A broker of its own, ended with the block."""
    async with scratch() as directory:
        server = KafkaServer(directory)
        try:
            await server.start()
            yield server
        finally:
            server.end()


@contextlib.contextmanager
def cluster_of_three() -> Iterator[list[KafkaServer]]:
    """Three brokers of one cluster, for code outside of an event loop."""
    with tempfile.TemporaryDirectory(prefix="datasync-") as directory:
        controllers = free_ports(3)
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers, 1))
        members = [
            KafkaServer(
                Path(directory), node=node, voters=voters, controller=port,
                settings=[
                    "offsets.topic.replication.factor=3",
                    "transaction.state.log.replication.factor=3", "transaction.state.log.min.isr=2",
                ],
            )
            for node, port in enumerate(controllers, 1)
        ]  # fmt: skip
        try:
            asyncio.run(all_run(members))
            yield members
        finally:
            for member in members:
                member.end()


async def all_run(members: Sequence[KafkaServer]) -> None:
    """Start those that do not run, and wait until each of them sees all others."""
    for member in members:
        if member.running:
            member.resume()
    await asyncio.gather(*(member.start() for member in members if not member.running))
    for member in members:
        async with topics.admin(member.port) as client:

            async def complete() -> bool:
                return len((await client.describe_cluster())["brokers"]) == len(members)

            await until(complete, f"{member.port} sees {len(members)} brokers")
