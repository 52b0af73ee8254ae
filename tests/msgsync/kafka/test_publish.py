"""What publishers live through: topics that shrink, transactions given up,
brokers that hang while closing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from datasync import DataSync, Disconnected, OutcomeUnknown, WatchClosed
from datasync.msgsync.kafka.cluster import Access, Cluster, Topic
from datasync.msgsync.kafka.errors import ValueTooLarge
from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.contract import eventually
from tests.helpers.faults import writes_leave_nothing
from tests.helpers.kafka.kafka_server import KafkaServer
from tests.helpers.load import QUICK
from tests.helpers.servers import until


@pytest.mark.parametrize("together", [False, True])
def test_a_topic_made_anew_with_fewer_partitions(server: KafkaServer, together: bool) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic, 3)
        keys = [f"a/{number}" for number in range(10)]
        async with DataSync(f"{server.url}/{topic}?timeout=20") as sync:

            async def write() -> list[int | BaseException | None]:
                if not together:
                    return list(
                        await asyncio.gather(
                            *(sync.put(key, b"1") for key in keys), return_exceptions=True
                        )
                    )
                txn = sync.txn()
                for key in keys:
                    txn.put(key, b"1")
                return list(await asyncio.gather(txn.commit(), return_exceptions=True))

            assert not [answer for answer in await write() if isinstance(answer, BaseException)]
            await topics.delete(server.port, topic)
            await topics.make(server.port, topic, 1)
            failed = [answer for answer in await write() if isinstance(answer, BaseException)]
            assert failed
            assert all(
                isinstance(error, Disconnected) and "fewer partitions" in str(error)
                for error in failed
            )
            assert not [answer for answer in await write() if isinstance(answer, BaseException)]
            assert await topics.everything(server.port, topic) == dict.fromkeys(keys, b"1")

    asyncio.run(main())


def test_many_who_begin_at_once_ask_once_where_the_topic_is(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        async with (
            server.proxy() as proxy,
            DataSync(f"kafka://127.0.0.1:{proxy.port}/{topic}?timeout=20") as sync,
        ):
            before = proxy.frames
            await asyncio.gather(*(sync.put(f"a/{number}", b"1") for number in range(1000)))
            assert proxy.frames - before < 100

    asyncio.run(main())


def test_many_at_once_are_one_request_and_one_look_at_the_topic(
    server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = 0, Cluster.topic

    def counted(cluster: Cluster, **how: bool) -> Coroutine[Any, Any, Topic]:
        nonlocal looks
        looks += 1
        return look(cluster, **how)

    monkeypatch.setattr(Cluster, "topic", counted)

    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        async with (
            server.proxy() as proxy,
            DataSync(f"kafka://127.0.0.1:{proxy.port}/{topic}?timeout=20") as sync,
        ):
            await sync.put("a/0", b"0")
            frames, looked = proxy.frames, looks
            await asyncio.gather(*(sync.put(f"a/{number}", b"1") for number in range(1000)))
            assert proxy.frames - frames < 20
            assert 0 < looks - looked < 20  # a batch each, not a message each

    asyncio.run(main())


def test_a_transaction_that_is_given_up_holds_no_reader_back(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        cluster = Cluster(Access((("127.0.0.1", server.port),), topic))
        found = await cluster.topic()

        async def open_now() -> bool:
            return await cluster.ends(found) < await cluster.ends(found, committed=False)

        async def ended() -> bool:
            return not await open_now()

        async with DataSync(f"{server.url}/{topic}") as sync:
            await sync.txn().put("a/1", b"1").put("a/2", b"1").commit()
            txn = sync.txn()
            for number in range(300):
                txn.put(f"b/{number}", b"x" * 100_000)
            commit = asyncio.ensure_future(txn.commit())
            await until(open_now, "it is open")
            commit.cancel()
            with pytest.raises(asyncio.CancelledError):
                await commit
            began = time.monotonic()
            await until(ended, "it is ended")
            assert time.monotonic() - began < 9  # by itself it would take 10 s
            assert await topics.everything(server.port, topic) == {"a/1": b"1", "a/2": b"1"}
            await sync.txn().put("a/1", b"2").put("a/2", b"2").commit()
        await cluster.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("group", ["", "&group=g"])
def test_closing_while_the_broker_hangs_ends_in_time(server: KafkaServer, group: str) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic)
        async with server.proxy() as proxy:
            sync = DataSync(f"kafka://127.0.0.1:{proxy.port}/{topic}?timeout=30{group}", **QUICK)
            view = sync.view("")
            sync.watch("beside", "b/")  # somebody has to be there to be asked
            await sync.start()
            await view.at_least(0)
            await sync.put("a/1", b"1")
            await sync.txn().put("a/1", b"2").put("a/2", b"2").commit()
            await eventually(lambda: "a/2" in view)
            proxy.pause()
            writes = [
                asyncio.ensure_future(sync.put("a/1", b"3")),
                asyncio.ensure_future(sync.put("a/1", b"3", confirm=True)),
                asyncio.ensure_future(sync.txn().put("a/1", b"4").put("a/2", b"4").commit()),
                asyncio.ensure_future(sync.delete("a/2")),
            ]
            await asyncio.sleep(0.1)
            async with asyncio.timeout(25):  # sooner than the request's own time is over
                await sync.aclose()
            for write in writes:
                with pytest.raises((Disconnected, OutcomeUnknown, WatchClosed)):
                    await asyncio.wait_for(write, 60)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            left = [
                task
                for task in others
                if "datasync/msgsync" in repr(task) or "aiokafka" in repr(task)
            ]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*left, return_exceptions=True), 60)
            assert not [task for task in left if not task.done()]

    asyncio.run(main())


def test_writes_that_are_refused_leave_nothing(server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic, max_message_bytes=2_000)
        async with DataSync(f"{server.url}/{topic}?timeout=30") as sync:
            await writes_leave_nothing(
                lambda number: sync.put(f"a/{number}", b"x" * 10_000), ValueTooLarge
            )

    asyncio.run(main())
