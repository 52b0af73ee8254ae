"""Faults of the connection between a client and what is served: cut at every event, half-open,
writes in the middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from datasync import DataSync, Disconnected, OutcomeUnknown
from datasync.restsync.listener import Listener
from datasync.source import Put
from datasync.testing.chaos.proxy import proxy_to
from datasync.testing.contract import eventually
from tests.helpers.etcd.load import judge
from tests.helpers.faults import closed_wherever_it_is_cancelled
from tests.helpers.load import QUICK, equal, watched, writing
from tests.helpers.logs import logged
from tests.helpers.rest.agents import agent
from tests.helpers.rest.served import served
from tests.helpers.servers import free_ports

Run = Callable[[Any], None]


class Events:
    """The ends of server-sent events, and of the parts of their encoding, which are lines."""

    def feed(self, data: bytes) -> list[int]:
        """The offsets in `data` at which lines end."""
        ends, at = [], data.find(b"\n")
        while at >= 0:
            ends.append(at + 1)
            at = data.find(b"\n", at + 1)
        return ends


def test_cut_at_every_line(run: Run) -> None:
    """At each line of the head, of a snapshot in pieces, and of the first changes: never less,
    never twice.
    """

    async def main() -> None:
        async with served() as server, proxy_to(server.access.port, Events) as proxy:
            items = {f"a/{number:04}": b"x" * 100 for number in range(2500)}
            await server.source.commit([Put(key, raw) for key, raw in items.items()])
            cut = 0
            for line in range(1, 200):
                cuts = proxy.cuts
                proxy.cut_at(line)
                async with watched(f"http://127.0.0.1:{proxy.port}", "a/") as (sync, probe):
                    await sync.ready(60)
                    await server.source.commit([Put("a/0000", b"%d" % line)])
                    two = [Put("a/0001", b"%d" % line), Put("a/0002", b"%d" % line)]
                    await server.source.commit(two)
                    items |= dict.fromkeys(("a/0000", "a/0001", "a/0002"), b"%d" % line)
                    await equal(probe, items)
                    assert len(probe.resyncs) == 1
                    assert {kv.key for kv in probe.resyncs[0].values["a/"]} == set(items)
                    assert all(len(event.changes) in (1, 2) for event in probe.changes)
                cut += proxy.cuts > cuts
                if proxy.cuts == cuts:
                    break
            assert cut > 20, "the proxy did not cut"

    run(main())


def test_half_open_under_load(run: Run) -> None:
    """A connection that stands but brings nothing is given up within its deadline,
    and nothing is missed.
    """

    async def main() -> None:
        async with (
            served() as server,
            proxy_to(server.access.port) as proxy,
            watched(f"http://127.0.0.1:{proxy.port}", ping_interval=0.5, ping_timeout=1.5) as (
                sync,
                probe,
            ),
        ):
            async with writing(server.url) as load:
                await load.more(50)
                for _ in range(2):
                    reconnects = sync.status().sources[0].reconnects
                    proxy.pause()
                    await eventually(lambda: sync.status().sources[0].state == "lost", 20)
                    await load.more(20)
                    proxy.resume()
                    await eventually(lambda: sync.status().sources[0].reconnects > reconnects, 60)  # noqa: B023
            log = [
                (revision, {key: raw}) for revision, (key, raw) in sorted(load.acknowledged.items())
            ]
            state = {key: raw for key, (raw, _) in server.source._items.items()}  # type: ignore[attr-defined]
            await equal(probe, state)
            judge(probe, log)

    run(main())


_HALF = b"PUT /v1/keys/config/half HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\n\r\nva"


@pytest.mark.parametrize(
    "rest", [b"", _HALF[:10], _HALF], ids=["nothing", "half a head", "half a body"]
)
def test_a_client_that_ends_its_side_is_answered_what_it_has_asked(run: Run, rest: bytes) -> None:
    """Wherever that is noticed, as between the answers to requests that came together;
    then the server closes.
    """

    async def main() -> None:
        async with agent() as it:
            await it.probe.hears(1)
            it.probe.gate.clear()
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
            writer.write(
                _HALF.replace(b"half", b"1") + b"lue" + _HALF.replace(b"half", b"2") + b"lue" + rest
            )
            writer.write_eof()

            for number in (1, 2):
                await it.probe.hears(1 + number)
                for _ in range(3):  # by then the server has read all that there is
                    assert (await it.ask("GET", "/v1/keys/config/1")).status == 200
                it.probe.gate.set()
                it.probe.gate.clear()  # what waited goes on
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                await reader.readexactly(
                    int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
                )
            assert await reader.read() == b""
            assert it.probe.state == {"config/1": b"value", "config/2": b"value"}
            writer.close()

    run(main())


def test_a_stream_ends_when_its_client_ends_its_side(run: Run) -> None:
    """It may have gone altogether, which would show only when there is something to tell it."""

    async def main() -> None:
        async with served() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.access.port)
            writer.write(b"GET /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            await reader.readuntil(b"snapshot-end")
            writer.write_eof()
            await reader.read()
            await eventually(lambda: not server.hub.watchers, 60)
            writer.close()

    run(main())


def test_a_write_to_none_is_surely_not_done_and_one_without_an_answer_unknown(run: Run) -> None:
    async def main() -> None:
        async with (
            served() as server,
            proxy_to(server.access.port) as proxy,
            DataSync(f"http://127.0.0.1:{proxy.port}?timeout=0.5", **QUICK) as sync,
        ):
            await sync.put("a", b"1")
            proxy.pause()
            with pytest.raises(OutcomeUnknown, match="read the keys"):
                await sync.put("a", b"2")
            with pytest.raises(Disconnected):
                await sync.get("a")
            proxy.resume()
            # the one whose fate was unknown is done now, once
            await eventually(lambda: server.source._revision == 2)  # type: ignore[attr-defined]
            await proxy.refuse()
            with pytest.raises(Disconnected, match="connection refused"):
                await sync.put("a", b"3")
            await proxy.start()
            found = await sync.get("a")
            assert found is not None
            assert (found.raw, found.revision) == (b"2", 2)

    run(main())


def test_writes_that_wait_for_their_verdict_hold_up_nothing_else(run: Run) -> None:
    """Neither the pings, without which the stream would count as lost, nor reads,
    nor other writes.
    """

    async def main() -> None:
        async with agent("slow/", ack_timeout=60) as it:
            await it.sync.ready(60)
            async with DataSync(it.url) as client:
                view = client.view("other/")
                revision = await client.put("other/a", b"0")
                assert revision is not None
                await view.at_least(revision, timeout=60)
                line = client._engine._feeds[0]._line
                assert line is not None
                it.probe.gate.clear()
                slow = [
                    asyncio.ensure_future(client.put(f"slow/{n}", b"1", confirm=True))
                    for n in range(200)
                ]
                await eventually(lambda: it.source._inbox._revision >= 64)
                await asyncio.wait_for(line.session.ping(), 60)
                assert await asyncio.wait_for(client.get("slow/0"), 60) is not None
                revision = await asyncio.wait_for(client.put("other/a", b"1"), 60)
                assert revision is not None
                await view.at_least(revision, timeout=60)
                assert not any(put.done() for put in slow)
                assert client.status().sources[0].reconnects == 0
                it.probe.gate.set()
                assert len(set(await asyncio.gather(*slow))) == 200

    run(main())


def test_closed_wherever_that_is_cancelled(run: Run) -> None:
    """All of its lanes: the stream, requests, and writes that wait for a verdict."""

    async def main() -> None:
        async with agent("a/") as it:
            await it.sync.ready(60)
            await closed_wherever_it_is_cancelled(it.url, int(it.url.rpartition(":")[2]))

    run(main())


def test_cancelled_writes_leave_nothing_behind(run: Run) -> None:
    async def main() -> None:
        async with served() as server, DataSync(server.url) as sync:
            for turns in range(30):
                put = asyncio.ensure_future(sync.put("a", b"%d" % turns))
                for _ in range(turns):
                    await asyncio.sleep(0)
                put.cancel()
                await asyncio.wait([put])
            await sync.put("a", b"last")
            found = await sync.get("a")
            assert found is not None
            assert found.raw == b"last"

    run(main())


@pytest.mark.parametrize("listens", ["a server", "the tests' own proxy"])
def test_what_is_just_being_accepted_when_nothing_more_is_taken_is_closed(
    run: Run, listens: str
) -> None:
    async def main(turns: int) -> None:
        async with contextlib.AsyncExitStack() as stack:
            if listens == "a server":
                listener = Listener(None)
                port = await listener.start("127.0.0.1", 0)
                stop = listener.aclose
            else:
                proxy = await stack.enter_async_context(proxy_to(1))
                port, stop = proxy.port, proxy.refuse
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setblocking(False)
                for _ in range(turns):
                    await asyncio.sleep(0)
                await stop()
                with contextlib.suppress(ConnectionResetError):  # not accepted at all
                    assert await asyncio.get_running_loop().sock_recv(client, 1) == b""

    for turns in range(6):
        run(main(turns))
        gc.collect()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of that kind")
def test_used_up_descriptors_are_said_once_and_the_status_goes_on(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    import resource

    async def main() -> None:
        async with served() as server, aiohttp.ClientSession() as client:
            # as the page does all the time, on a connection that stays open
            for path in ("v1/status", "metrics"):
                async with client.get(f"{server.url}/{path}") as answer:
                    assert answer.status == 200
                    await answer.read()
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            with contextlib.ExitStack() as stack:
                waiting = [stack.enter_context(socket.socket()) for _ in range(20)]
                highest = max(one.fileno() for one in waiting)
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
                stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
                with contextlib.suppress(OSError):
                    while True:  # whatever lies below
                        stack.enter_context(socket.socket())
                for one in waiting:
                    one.connect(("127.0.0.1", server.access.port))
                await eventually(lambda: "ulimit" in caplog.text)
                async with client.get(f"{server.url}/v1/status") as answer:
                    assert (await answer.json())["ready"]
                async with client.get(f"{server.url}/metrics") as answer:
                    assert answer.status == 200
                    await answer.read()
                await asyncio.sleep(0)

            async with DataSync(server.url) as sync:  # there are some again
                await sync.put("a", b"1")

    run(main())
    assert len(logged(caplog, logging.WARNING)) == 1


_EVERYTHING_ASKED_LAST = """
import asyncio, resource, socket, sys

import datasync

assert "prometheus_client" not in sys.modules, "only who serves needs it"


async def main(port):
    async with datasync.DataSync(f"rest://127.0.0.1:{port}?initial=empty") as sync:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def ask(path):
            writer.write(f"GET /{path} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n".encode())
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
            print(path, head.split()[1].decode())

        await ask("health")  # the connection is accepted by then
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (writer.get_extra_info("socket").fileno() + 2, hard))
        held = []
        try:
            while True:
                held.append(socket.socket())
        except OSError:
            pass

        for path in ("openapi.json", "", "v1/keys", "v1/keys/a", "v1/status", "metrics"):
            await ask(path)

        for one in held:
            one.close()
        writer.close()


asyncio.run(main(int(sys.argv[1])))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of that kind")
@pytest.mark.once
def test_what_is_first_asked_for_without_a_descriptor_left_is_answered() -> None:
    """In a process of its own, in which nothing was loaded before."""
    command = [sys.executable, "-c", _EVERYTHING_ASKED_LAST, str(free_ports(1)[0])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = dict(line.split(" ") for line in done.stdout.splitlines())
    assert found.pop("v1/keys/a") == "404"
    assert set(found.values()) == {"200"}, found
    assert "metrics" in found


@pytest.mark.skipif(sys.platform == "win32", reason="there is no uvloop")
def test_a_listener_under_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with served() as server, DataSync(server.url) as sync:
            await sync.put("a", b"1")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
