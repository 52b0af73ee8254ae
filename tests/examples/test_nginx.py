"""The nginx agent on a real nginx, which is asked for pages all the time."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import nginx
from datasync import DataSync, NotApplied, Verdict
from datasync.reconcile import Reconciler, State
from datasync.testing.contract import eventually
from nginx import HOSTS, UPSTREAMS, Host, Nginx, Upstream
from tests.helpers.servers import child, free_ports, listening, require

pytestmark = pytest.mark.once

APP, SHOP = f"{UPSTREAMS}app", f"{HOSTS}shop"


class Web:
    """A running nginx with its agent."""

    def __init__(self, sync: DataSync, rec: Reconciler, nginx: Nginx, port: int) -> None:
        self.sync, self.rec, self.nginx, self.port = sync, rec, nginx, port
        self.host = Host(f"127.0.0.1:{port}", ["localhost"], "app")

    async def put(self, key: str, value: object) -> None:
        await self.sync.put(key, value, confirm=60)

    def files(self) -> dict[str, str]:
        return self.nginx.read("*")

    def workers(self) -> set[str]:
        pid = (self.nginx.home / "nginx.pid").read_text().strip()
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def reloads(self) -> int:
        return (self.nginx.home / "error.log").read_text().count("SIGHUP")


@contextlib.asynccontextmanager
async def web(home: Path) -> AsyncIterator[Web]:
    program = require("nginx", "apt-get install nginx")
    server = Nginx(home)
    command = [program, "-p", str(home), "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;"]
    with child(command) as process:
        try:
            await eventually(lambda: list(home.glob("nginx.pid")))
            async with DataSync("memory://") as sync, nginx.reconciler(sync, server) as rec:
                yield Web(sync, rec, server, free_ports(1)[0])
        finally:
            process.terminate()  # its workers would outlive a kill
            process.wait(60)


@contextlib.asynccontextmanager
async def answering(text: str) -> AsyncIterator[str]:
    """A server that answers everything with that text; where it listens."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        writer.write((head + text).encode())
        await writer.drain()

    async with listening(serve) as port:
        yield f"127.0.0.1:{port}"


async def asked(port: int, name: str = "localhost") -> str:
    """What nginx answers; its status line where that is no page."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode()
    head, _, body = answer.partition("\r\n\r\n")
    return body if head.startswith("HTTP/1.1 200 ") else head.partition("\r\n")[0]


async def served(port: int, text: str, name: str = "localhost") -> None:
    """Wait until nginx answers that."""
    answer = ""
    while answer != text:
        with contextlib.suppress(OSError):
            answer = await asked(port, name)
        await asyncio.sleep(0.01)


def run(main: object) -> None:
    async def limited() -> None:
        async with asyncio.timeout(120):
            await main  # type: ignore[misc]

    asyncio.run(limited())


def test_traffic_is_served_throughout_while_everything_changes(tmp_path: Path) -> None:
    async def main() -> None:
        async with web(tmp_path) as it, answering("one") as one, answering("two") as two:
            with pytest.raises(NotApplied) as info:
                await it.put(SHOP, it.host)
            assert info.value.verdict is Verdict.PENDING
            await it.put(APP, Upstream([one]))
            await it.rec.wait(SHOP, State.APPLIED, 60)
            answers: list[str] = []

            async def ask() -> None:
                while True:
                    answers.append(await asked(it.port))

            async def heard(text: str) -> None:
                since = len(answers)
                await eventually(lambda: text in answers[since:])

            asking = asyncio.create_task(ask())
            await heard("one")
            for number in range(3):
                await it.put(f"{HOSTS}more{number}", Host(it.host.listen, [f"n{number}"], "app"))
            await it.put(APP, Upstream([two]))
            await heard("two")
            await it.sync.delete(f"{HOSTS}more1", confirm=60)
            other = f"{UPSTREAMS}other"
            await (
                it.sync.txn()
                .put(other, Upstream([one]))
                .put(SHOP, Host(it.host.listen, ["localhost"], "other"))
                .commit(confirm=60)
            )
            await heard("one")
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking

            assert set(answers) == {"one", "two"}
            await served(it.port, "two", "n0")

    run(main())


def test_a_bad_one_is_refused_in_the_words_of_nginx_and_never_in_place(tmp_path: Path) -> None:
    async def main() -> None:
        async with web(tmp_path) as it, answering("one") as one:
            await it.put(APP, Upstream([one]))
            await it.put(SHOP, it.host)
            before = it.files()

            for bad, words in [
                ("127.0.0.1:99999", 'invalid port in upstream "127.0.0.1:99999" in conf.d/upstream-app.conf:3'),
                ("127.0.0.1; }", "'127.0.0.1; }' is not a name or an address"),
            ]:  # fmt: skip
                with pytest.raises(NotApplied) as info:
                    await it.put(APP, Upstream([bad]))
                assert info.value.verdict is Verdict.REFUSED
                assert info.value.outcomes[APP].reason == words
                assert it.rec.state(APP) is State.INVALID
            with pytest.raises(NotApplied, match='of the "listen" directive'):
                await it.put(f"{HOSTS}more", Host("127.0.0.1:99999", ["localhost"], "app"))
            assert it.files() == before
            assert await asked(it.port) == "one"

    run(main())


def test_what_was_edited_or_removed_by_hand_is_put_right(tmp_path: Path) -> None:
    async def main() -> None:
        async with web(tmp_path) as it, answering("one") as one:
            await it.put(APP, Upstream([one]))
            await it.put(SHOP, it.host)
            before = it.files()

            shop = it.nginx.files / "host-shop.conf"
            shop.write_text(shop.read_text().replace("localhost;", "elsewhere;"))
            await eventually(lambda: it.files() == before)
            shop.unlink()
            (it.nginx.files / "host-old.conf").write_text("# nobody stores it\n")
            await eventually(lambda: it.files() == before)
            await served(it.port, "one")

    run(main())


def test_a_port_that_somebody_else_has_is_told_and_taken_once_it_is_free(tmp_path: Path) -> None:
    async def main() -> None:
        async with web(tmp_path) as it, answering("one") as one:
            await it.put(APP, Upstream([one]))
            async with answering("another") as taken:
                with contextlib.suppress(NotApplied):  # nginx tries for longer than it waits
                    await it.put(SHOP, Host(taken, ["localhost"], "app"))
                await it.rec.wait(SHOP, State.FAILED, 60)
                assert f"bind() to {taken} failed" in it.rec.reason(SHOP)
                await eventually(lambda: "host-shop.conf" not in it.files())
            await it.rec.wait(SHOP, State.APPLIED, 60)
            assert await asked(int(taken.partition(":")[2])) == "one"

    run(main())


def test_an_agent_that_starts_again_reloads_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/web.db"
    command = [sys.executable, nginx.__file__, url, str(tmp_path / "web")]

    async def main() -> None:
        async with (
            web(tmp_path / "web") as it,
            answering("one") as one,
            DataSync(url, label=nginx.LABEL) as sync,
        ):
            await it.rec.aclose()
            await sync.put(APP, Upstream([one]))
            await sync.put(SHOP, it.host)
            with child(command):
                await served(it.port, "one")
                await eventually(lambda: len(it.workers()) == 1)
            reloads, before = it.reloads(), it.workers()

            with child(command):
                await sync.put(f"{UPSTREAMS}last", Upstream([one]))
                await eventually(lambda: it.reloads() > reloads and it.workers().isdisjoint(before))
                await served(it.port, "one")
            assert it.reloads() == reloads + 1

    run(main())
