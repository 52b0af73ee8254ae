"""Text is stored alike by every door, and read alike."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from datasync import BadValue, ChangeEvent, DataSync, Event, ResyncEvent
from tests.helpers.command_line import Command
from tests.helpers.rest.agents import agent

TEXTS = ["edge", "", "22:22", "1500", "null", '"quoted"', "[1]", "two\nlines", "\u00e4 \U0001f600"]
KEYS = [f"k/{at}" for at in range(len(TEXTS))]


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


FILES = {
    "jsonl": "".join(
        f'{{"key":"{key}","value":{quoted(text)}}}\n' for key, text in zip(KEYS, TEXTS, strict=True)
    ),
    "json": quoted(dict(zip(KEYS, TEXTS, strict=True))),  # type: ignore[arg-type]
    "yaml": "".join(f"{key}: {quoted(text)}\n" for key, text in zip(KEYS, TEXTS, strict=True)),
}


def texts(url: str) -> list[str]:
    """What a view and a list of `str` show."""

    async def main() -> list[str]:
        async with DataSync(url) as sync:
            view = sync.view("k/", str)
            await sync.ready(60)
            assert [pair.value async for pair in sync.list("k/", str)] == list(view.values())
            return list(view.values())

    return asyncio.run(main())


def test_put_and_the_command_line_store_the_same(cli: Command) -> None:
    async def write() -> None:
        async with DataSync("sqlite:///python.db") as sync:
            for key, text in zip(KEYS, TEXTS, strict=True):
                await sync.put(key, text)

    asyncio.run(write())
    for key, text in zip(KEYS, TEXTS, strict=True):
        assert cli("put", "sqlite:///typed.db", key, text).code == 0
    assert texts("sqlite:///python.db") == texts("sqlite:///typed.db") == TEXTS
    assert cli("get", "sqlite:///python.db", "k/0").out == "edge\n"
    same = cli("diff", "sqlite:///python.db", "sqlite:///typed.db")
    assert (same.code, same.out) == (0, "")


@pytest.mark.parametrize("format", FILES)
def test_text_in_a_file_is_what_python_reads(cli: Command, format: str) -> None:
    Path(f"in.{format}").write_text(FILES[format], encoding="utf-8")
    assert cli("load", "sqlite:///a.db", f"in.{format}").code == 0
    assert texts("sqlite:///a.db") == TEXTS
    assert cli("dump", "sqlite:///a.db", "-o", f"out.{format}").code == 0
    assert cli("load", "sqlite:///b.db", f"out.{format}").code == 0
    assert texts("sqlite:///b.db") == TEXTS


def test_text_over_rest_is_what_python_reads() -> None:
    async def main() -> None:
        async with agent("k/") as served:
            view = served.sync.view("k/", str)
            await served.sync.ready(60)

            for key, text in zip(KEYS, TEXTS, strict=True):
                said = await served.ask("PUT", f"/v1/keys/{key}", text.encode())
                assert said.status == 200, said.body
            assert list(view.values()) == TEXTS

            operations = [
                {"op": "put", "key": key, "value": text}
                for key, text in zip(KEYS, reversed(TEXTS), strict=True)
            ]
            body = json.dumps({"operations": operations}).encode()
            said = await served.ask(
                "POST", "/v1/transactions", body, content_type="application/json"
            )
            assert said.status == 200, said.body
            assert list(view.values()) == TEXTS[::-1]

            async with DataSync(served.url) as client:
                await client.put("k/0", "core")
                kept = await client.get("k/0", str)
            assert kept is not None
            assert kept.value == view["k/0"] == "core"

    asyncio.run(main())


def test_a_watch_of_text_is_given_text() -> None:
    seen: list[object] = []

    async def main() -> None:
        sync = DataSync("memory://")

        @sync.watcher("k/", type=str)
        async def handle(event: Event[str]) -> None:
            match event:
                case ResyncEvent():
                    seen.extend(pair.value for pair in event.values["k/"])
                case ChangeEvent():
                    (change,) = event.changes
                    seen.append((change.prev and change.prev.value, change.value))

        async with sync:
            await sync.put("k/1", "edge", confirm=True)
            await sync.put("k/1", "core", confirm=True)

    asyncio.run(main())
    assert seen == [(None, "edge"), ("edge", "core")]


def test_a_value_of_before_is_read_as_bytes_and_written_again() -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            await sync.put("k/1", b'"edge"')
            for pair in [pair async for pair in sync.list("k/")]:
                await sync.put(pair.key, json.loads(pair.value))
            kept = await sync.get("k/1")
            assert kept is not None
            assert kept.value == b"edge"

    asyncio.run(main())


def test_types_that_may_be_text_are_refused_when_they_are_registered() -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            with pytest.raises(BadValue, match="use str and check it"):
                sync.watch("names", "k/", type=str | None)  # type: ignore[arg-type]
            assert not sync.watches
            with pytest.raises(BadValue, match="use str and check it"):
                sync.view("k/", str | int)  # type: ignore[arg-type]
            with pytest.raises(BadValue, match="use str and check it"):
                await sync.get("k/1", str | int)  # type: ignore[arg-type]

    asyncio.run(main())


def test_text_that_is_not_utf8_hides_no_other() -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            view = sync.view("k/", str)
            await sync.ready(60)
            await sync.put("k/1", b"\xff\x00")
            await sync.put("k/2", "edge")
            await view.at_least(2, 60)
            assert [*view.undecodable] == ["k/1"]
            assert [*view.items(skip_undecodable=True)] == [("k/2", "edge")]

    asyncio.run(main())
