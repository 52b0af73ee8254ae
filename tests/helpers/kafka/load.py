"""A recorded watch on a topic, and the judgement of what it saw."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from datasync import DataSync
from datasync.events import ResyncEvent
from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.contract import eventually
from tests.helpers import load
from tests.helpers.load import Watched, hold

__all__ = ["judge", "settled", "watched"]


@contextlib.asynccontextmanager
async def watched(
    port: int, topic: str, *, by: int | str | None = None, **options: Any
) -> AsyncIterator[tuple[DataSync, Watched]]:
    """See `load.watched`.

    `port`: where the history is looked up; `by`: the port, or the brokers, that the watch goes to.
    """
    brokers = by if isinstance(by, str) else f"127.0.0.1:{by or port}"
    url = f"kafka://{brokers}/{topic}"
    async with load.watched(url, history=await topics.id_of(port, topic), **options) as (
        sync,
        probe,
    ):
        await sync.ready(60)
        yield sync, probe


async def settled(probe: Watched, port: int, topic: str) -> None:
    """Wait until the watch has seen all that the topic holds."""
    wanted = await topics.everything(port, topic)
    await eventually(lambda: probe.state == wanted, 60)


async def judge(probe: Watched, port: int, topic: str) -> None:
    """Hold what a watch of everything saw, without any RESYNC but the first,
    against the records of the topic: each key's changes are all there, once, in order.
    """
    probe.check()
    log = await topics.history(port, topic)
    state = await topics.everything(port, topic)
    assert probe.state == state
    first, *again = probe.resyncs
    assert not again
    known = {kv.key: kv.revision for values in first.values.values() for kv in values}
    shown: dict[str, list[bytes | None]] = {}
    for event in probe.events:
        if not isinstance(event, ResyncEvent):
            for change in event.changes:
                shown.setdefault(change.key, []).append(change.raw)
    for records in log.values():
        written: dict[str, list[bytes | None]] = {}
        now: dict[str, bytes | None] = {
            kv.key: kv.raw for values in first.values.values() for kv in values
        }
        for offset, raw_key, value in records:
            assert raw_key is not None
            key = raw_key.decode()
            if key in known and offset <= known[key]:
                continue
            if now.get(key) != value:
                written.setdefault(key, []).append(value)
            now[key] = value
        for key, values in written.items():
            # a key that the RESYNC lacks may have come and gone before it
            seen = shown.get(key, [])
            assert seen == values[len(values) - len(seen) :], (
                f"{key}: written {values}, shown {seen}"
            )
            if key in known or not first.values:
                assert seen == values, f"{key}: written {values}, shown {seen}"
    if len(log) == 1:
        hold(
            probe,
            [(offset, {(key or b"").decode(): value}) for offset, key, value in log[0]],
            state,
        )
