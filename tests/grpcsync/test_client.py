"""The client that pushes: verdicts as errors, deadlines, and what a lost connection means."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from datasync import (
    BadStore,
    BadUrl,
    BadValue,
    Conflict,
    DataSync,
    Disconnected,
    NotApplied,
    NotReady,
    OutcomeUnknown,
    UnsupportedOption,
    Verdict,
    open_url,
)
from datasync.grpcsync.server import Server
from datasync.kvdbsync.memory import MemorySource
from datasync.serving.access import Access
from datasync.serving.hub import Hub
from datasync.source import Committed, Operation
from datasync.testing.chaos.proxy import proxy_to
from datasync.testing.contract import eventually
from tests.helpers.grpc.agents import Agent, agent
from tests.helpers.servers import free_ports

Run = Callable[[Coroutine[Any, Any, None]], None]


def pushing(one: Agent | int, query: str = "?timeout=60") -> DataSync:
    """A client of an agent, or of a port."""
    port = one if isinstance(one, int) else one.port
    return DataSync(f"grpc://127.0.0.1:{port}{query}")


def test_verdicts_are_raised_as_the_same_errors(run: Run) -> None:
    async def main() -> None:
        async with agent("?initial=empty") as one, pushing(one) as sync:
            assert await sync.put("config/a", b"1", confirm=True) == 1
            with pytest.raises(NotApplied) as caught:
                await (
                    sync.txn().put("config/bad/b", b"2").put("config/c", b"3").commit(confirm=True)
                )
            assert caught.value.verdict is Verdict.REFUSED
            assert caught.value.reasons == {"config/bad/b": "no such bridge: config/bad/b"}
            assert caught.value.revision == 2
            for key, verdict in (
                ("broken/a", Verdict.FAILED),
                ("slow/a", Verdict.OVERDUE),
                ("x", Verdict.UNWATCHED),
            ):
                with pytest.raises(NotApplied) as caught:
                    await sync.put(key, b"", confirm=True)
                assert caught.value.verdict is verdict
            with pytest.raises(NotApplied) as caught:  # this client waits less than the agent does
                await sync.put("slow/a", b"2", confirm=0.01)
            assert caught.value.verdict is Verdict.OVERDUE
            with pytest.raises(Conflict) as conflict:
                await sync.put("config/a", b"9", if_revision=7)
            assert (conflict.value.key, conflict.value.expected) == ("config/a", 7)
            assert await sync.delete("config/a", confirm=True)
            assert not await sync.delete("config/a", confirm=True)
            assert one.state == {"config/c": b"3"}

    run(main())


def test_a_ttl_ends_in_a_delete(run: Run) -> None:
    async def main() -> None:
        async with agent("?initial=empty") as one, pushing(one) as sync:
            await sync.put("config/a", b"1", ttl=0.1, confirm=True)
            seen = [(change.key, change.raw) for event in one.events for change in event.changes]
            assert ("config/a", b"1") in seen
            await eventually(lambda: not one.state)

    run(main())


def test_a_resync_from_a_client(run: Run) -> None:
    async def main() -> None:
        async with agent() as one, pushing(one) as sync:
            for attempt in (sync.put("a", b"1"), sync.get("a"), anext(sync.list())):
                with pytest.raises(NotReady, match="RESYNC"):
                    await attempt
            source = open_url(f"grpc://127.0.0.1:{one.port}")
            # several messages
            many = {f"config/{number:05}": bytes(100) for number in range(20_000)}
            assert (
                await (await source.replace(many.items())).verdict()
            ).verdict is Verdict.ACCEPTED
            assert one.state == many
            assert [kv.key async for kv in sync.list("config/", keys_only=True)] == list(many)
            with pytest.raises(BadValue, match="limit"):
                await source.replace([("config/a", bytes(17 << 20))])
            assert one.state == many
            await source.aclose()
            with pytest.raises(UnsupportedOption, match="takes no RESYNC"):
                await MemorySource().replace([])

    run(main())


def test_many_writes_at_a_time_share_messages_and_keep_their_answers(run: Run) -> None:
    async def main() -> None:
        async with agent("?initial=empty") as one, pushing(one) as sync:
            writes = [
                sync.put(f"config/{number}", b"%d" % number, confirm=True) for number in range(2000)
            ]
            assert sorted(await asyncio.gather(*writes)) == list(range(1, 2001))  # type: ignore[type-var]
            assert one.state == {f"config/{number}": b"%d" % number for number in range(2000)}

    run(main())


def test_writes_are_not_held_up_by_verdicts_that_take_their_time(run: Run) -> None:
    async def main() -> None:
        [port] = free_ports(1)
        there = DataSync(f"grpc://127.0.0.1:{port}?initial=empty", ack_timeout=60)
        gate = asyncio.Event()

        @there.watcher("")
        async def slow(event: Any) -> None:
            if event.changes:
                await gate.wait()

        async with there, pushing(port) as sync:
            puts = [
                asyncio.create_task(sync.put(f"a/{i:04}", b"%d" % i, confirm=True))
                for i in range(3000)
            ]
            await there.view("a/").at_least(3000, timeout=60)
            assert not any(put.done() for put in puts)
            gate.set()
            assert sorted(await asyncio.gather(*puts)) == list(range(1, 3001))  # type: ignore[type-var]

    run(main())


def test_a_write_may_wait_while_those_before_it_are_answered(run: Run) -> None:
    class OneByOne(MemorySource):
        turn = asyncio.Semaphore()

        async def commit(
            self, operations: Sequence[Operation], *, reply: bool = False
        ) -> Committed:
            async with self.turn:
                await asyncio.sleep(0.1)
                return await super().commit(operations, reply=reply)

    async def main() -> None:
        [port] = free_ports(1)
        hub = Hub(OneByOne())
        server = Server(Access("server", "127.0.0.1", port), hub)
        async with hub, server, pushing(port, "?timeout=2") as sync:
            # twice as long as one may take
            puts = [sync.put(f"a/{number}", b"") for number in range(40)]
            assert await asyncio.gather(*puts) == list(range(1, 41))

    run(main())


def test_too_large_a_value_is_refused_here_and_harms_nothing(run: Run) -> None:
    async def main() -> None:
        async with agent("?initial=empty") as one, pushing(one) as sync:
            with pytest.raises(BadValue, match="'config/a'; write less"):
                await sync.put("config/a", bytes(16 << 20))
            largest = bytes((16 << 20) - 1000)
            await sync.put("config/a", largest, confirm=True)
            found = await sync.get("config/a")
            assert found is not None
            assert found.raw == largest
            async with DataSync(f"grpc+watch://127.0.0.1:{one.port}") as watching:
                view = watching.view()
                await view.at_least(1, timeout=60)
                assert view["config/a"] == largest

    run(main())


def test_nobody_there_is_disconnected_and_no_answer_is_unknown(run: Run) -> None:
    async def main() -> None:
        [port] = free_ports(1)
        async with pushing(port) as sync:
            with pytest.raises(Disconnected, match="check the address"):
                await sync.put("config/a", b"1")
            assert "check the address" in (sync.status().sources[0].error or "")
        query = "?timeout=0.3"
        async with (
            agent("?initial=empty") as one,
            proxy_to(one.port) as proxy,
            pushing(proxy.port, query) as sync,
        ):
            await sync.put("config/a", b"1")
            proxy.pause()
            began = time.monotonic()
            with pytest.raises(OutcomeUnknown, match=r"0\.3 s"):
                await sync.put("config/a", b"2")
            assert time.monotonic() - began < 5
            proxy.resume()
            await _until_written(sync, "config/a", b"3")
            assert one.state == {"config/a": b"3"}

    run(main())


def test_a_connection_that_breaks_under_a_write(run: Run) -> None:
    async def main() -> None:
        async with (
            agent("?initial=empty") as one,
            proxy_to(one.port) as proxy,
            pushing(proxy.port) as sync,
        ):
            await sync.put("config/a", b"1")
            proxy.pause()
            writing = asyncio.create_task(sync.put("config/a", b"2"))
            waiting = asyncio.create_task(sync.put("slow/a", b"2", confirm=True))
            await asyncio.sleep(0.05)  # both are under way now, or fail as Disconnected below
            proxy.cut()
            proxy.resume()
            for task in (writing, waiting):
                with pytest.raises((OutcomeUnknown, Disconnected)):
                    await task
            await _until_written(sync, "config/a", b"3")
            assert one.state["config/a"] == b"3"

    run(main())


@pytest.mark.parametrize("where", [{}, {"prefix": "slow/"}, {"label": "vpp1"}])
def test_an_agent_that_goes_before_its_verdict_is_not_waited_for(
    run: Run, where: dict[str, str]
) -> None:
    async def main() -> None:
        [port] = free_ports(1)
        there = DataSync(f"grpc://127.0.0.1:{port}?initial=empty", ack_timeout=60)
        arrived = asyncio.Event()

        @there.watcher("", name="stuck")
        async def stuck(event: Any) -> None:
            if event.changes:
                event.defer()
                arrived.set()

        async with there, proxy_to(port) as proxy:
            await there.ready(60)  # by now it listens
            async with DataSync(f"grpc://127.0.0.1:{proxy.port}?timeout=60", **where) as sync:  # type: ignore[arg-type]
                put = asyncio.create_task(sync.put("a", b"1", confirm=True))
                await eventually(lambda: arrived.is_set() or put.done())
                await until_told(put)
                await proxy.refuse()
                with pytest.raises(OutcomeUnknown):
                    await asyncio.wait_for(put, 60)

    async def until_told(put: asyncio.Task[Any]) -> None:
        # what is tested is the wait for the verdict, behind the answer to the write
        await asyncio.sleep(0.2)
        assert not put.done(), put

    run(main())


def test_a_write_that_waits_behind_others_for_too_long_says_so(run: Run) -> None:
    async def main() -> None:
        async with (
            agent("?initial=empty") as one,
            proxy_to(one.port) as proxy,
            pushing(proxy.port, "?timeout=0.5") as sync,
        ):
            await _until_written(sync, "config/a", b"1")
            proxy.pause()
            puts = (sync.put(f"config/{number}", bytes(200_000)) for number in range(50))
            ended = await asyncio.gather(*puts, return_exceptions=True)
            assert {type(error) for error in ended} == {Disconnected, OutcomeUnknown}
            unsent = {str(error) for error in ended if isinstance(error, Disconnected)}
            assert len(unsent) == 1, unsent
            assert (
                "no answer within 0.5 s to the writes before it; this one was not sent"
                in unsent.pop()
            )

    run(main())


async def _until_written(sync: DataSync, key: str, value: bytes) -> None:
    while True:
        try:
            await sync.put(key, value, confirm=True)
        except (Disconnected, OutcomeUnknown):
            await asyncio.sleep(0.01)
        else:
            return


def test_a_watcher_promises_what_the_served_source_can(run: Run) -> None:
    class Modest(MemorySource):
        capabilities = msgspec.structs.replace(
            MemorySource.capabilities, order="key", revisions=False, ttl=False
        )

    async def main() -> None:
        [port] = free_ports(1)
        hub = Hub(Modest())
        async with hub, Server(Access("server", "127.0.0.1", port), hub):
            source = open_url(f"grpc+watch://127.0.0.1:{port}")
            sync = DataSync(source, prefix="a/")
            sync.watch("w", "b/")
            async with sync:
                assert source.capabilities == msgspec.structs.replace(
                    Modest.capabilities, resume=True, reply=False
                )
                assert not sync._engine.layers[0].revisions
                with pytest.raises(UnsupportedOption, match="no ttl"):
                    await sync.put("b/1", b"", ttl=60)

    run(main())


def test_an_agent_takes_the_address_of_one_that_ended(run: Run) -> None:
    async def main() -> None:
        async with agent("?initial=empty") as one:
            second = DataSync(one.url)
            second.watch("w", "config/")
            with pytest.raises(BadStore, match="cannot listen there: address already in use"):
                await second.start()
            await one.sync.aclose()

            third = DataSync(one.url)
            third.watcher("config/", name="w")(lambda event: None)
            async with third, pushing(one) as sync:
                await sync.put("config/a", b"1", confirm=True)

    run(main())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("grpc://127.0.0.1", "is not an address"),
        ("grpc://127.0.0.1:1?initial=full", "takes 'empty'"),
        ("grpc+watch://127.0.0.1:1?initial=empty", "unknown query key"),
        ("grpc://127.0.0.1:1?timeout=0", "positive number of seconds"),
    ],
)
def test_bad_urls(url: str, says: str) -> None:
    with pytest.raises(BadUrl, match=says):
        DataSync(url)


def test_the_command_line_pushes(run: Run, tmp_path: Path) -> None:
    async def datasync(*words: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "datasync", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def main() -> None:
        file = tmp_path / "net.jsonl"
        file.write_text('{"key": "config/a", "value": "1"}\n{"key": "config/b", "value": "2"}\n')
        async with agent() as one:
            url = f"grpc://127.0.0.1:{one.port}"
            code, out, err = await datasync("put", url, "config/a", "1")
            assert (code, out) == (1, "")
            assert "has not been given its state yet" in err
            assert await datasync("load", url, "--resync", str(file)) == (
                0,
                "sent a RESYNC of 2 keys, revision 1\n",
                "",
            )
            assert sorted(one.state) == ["config/a", "config/b"]
            assert (await datasync("load", url, "--resync", "--json", str(file)))[1] == (
                '{"op":"resync","keys":2,"revision":2}\n'
            )
            assert await datasync("put", url, "config/c", "3") == (0, "3\n", "")
            code, _, err = await datasync("put", url, "config/bad/d", "4")
            assert code == 1
            assert err.count("\n") == 1
            assert "written, but refused (config/bad/d: no such bridge: config/bad/d)" in err
            assert await datasync("del", url, "config/c") == (0, "deleted\n", "")
            assert (await datasync("load", url, str(file)))[0] == 0
            assert (await datasync("ls", url, "config/"))[1].splitlines() == [
                "config/a",
                "config/b",
                "config/bad/d",
            ]
            assert sorted(one.state) == ["config/a", "config/b"]
            file.write_text("")
            assert (await datasync("load", url, "--resync", str(file)))[0] == 2
            assert sorted(one.state) == ["config/a", "config/b"]
            code, out, err = await datasync("load", url, "--resync", "--allow-empty", str(file))
            assert (code, out[:22], err) == (0, "sent a RESYNC of 0 key", "")
            assert not one.state

    run(main())
