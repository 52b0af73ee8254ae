"""Servers that speak Redis' protocol in bad faith: bounded, told by typed errors,
and tried again like any lost one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from datasync import AnswerTooLarge, BadUrl, DataSync, Disconnected, OutcomeUnknown, open_url
from datasync.endpoints import Endpoint
from datasync.errors import DataSyncError, WatchClosed
from datasync.kvdbsync.redis.link import Access, Link
from datasync.kvdbsync.redis.store import Shared, Single, Store
from datasync.source import Delete, Put
from datasync.testing.contract import eventually
from tests.helpers.load import QUICK, equal, lost_because, state_of, watched
from tests.helpers.logs import logged
from tests.helpers.memory import memory_below
from tests.helpers.redis.redis_server import redis_server
from tests.helpers.servers import drip, listening

_MIB = 1 << 20
_LIMIT = f"max_answer={_MIB}"
_HELLO = b"%%3\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$4\r\nmode\r\n$%d\r\n%s\r\n$5\r\nproto\r\n:3\r\n"

Said = bytes | Callable[[int, int], bytes] | None
"""What is said to a command, or what makes it of how often that was sent, and of how many words;
None: nothing.
"""


def hello(mode: bytes = b"standalone") -> bytes:
    return _HELLO % (len(mode), mode)


@contextlib.asynccontextmanager
async def fake(answers: dict[bytes, Said], mode: bytes = b"standalone") -> AsyncIterator[int]:
    """A server that greets, and says to each command what its name stands for; "+OK" to others.

    Yields its port.
    """
    counts: dict[bytes, int] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            name = words[0] if words[0] != b"CLUSTER" else b" ".join(words[:2])
            said = answers.get(name, hello(mode) if name == b"HELLO" else b"+OK\r\n")
            if callable(said):
                counts[name] = counts.get(name, 0) + 1
                said = said(counts[name], len(words))
            if said is not None:
                writer.write(said)
                await writer.drain()

    async with listening(serve) as port:
        yield port


_BOMBS = {
    "array": (b"*2147483647\r\n", b""),
    "push": (b">2147483647\r\n", b""),
    "map": (b"%2147483647\r\n", b""),
    "set": (b"~2147483647\r\n", b""),
    "nested": (b"*1\r\n*1\r\n*2\r\n:1\r\n*999999999\r\n", b""),
    "in pieces": (b"*3\r\n:1\r\n", b"*9000\r\n" * 1_000),
    "string": (b"$2147483648\r\n", b""),
    "text": (b"=99999999999\r\n", b""),
    "stream of a string": (b"$2147483648\r\n", b"x" * 65_536),
    "line without end": (b"+", b"x" * 65_536),
    "error without end": (b"-", b"x" * 65_536),
    "many empty arrays": (b"*16000\r\n", b"*0\r\n" * 1_000),
}


@pytest.mark.parametrize("step", [1, 1_000])
@pytest.mark.parametrize("bomb", _BOMBS)
def test_one_answer_is_bounded(bomb: str, step: int) -> None:
    """Also where it comes byte by byte."""
    head, piece = _BOMBS[bomb]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        for at in range(0, len(head), step):
            writer.write(head[at : at + step])
            await asyncio.sleep(0)
        while piece:
            writer.write(piece)
            await writer.drain()
        await reader.read()

    async def main() -> None:
        async with listening(serve) as port, asyncio.timeout(60):
            source = open_url(f"redis://127.0.0.1:{port}?{_LIMIT}&timeout=30")
            with (
                memory_below(8 * _MIB),
                pytest.raises(AnswerTooLarge, match=r"more than 1048576 bytes.*max_answer="),
            ):
                await source.get("a/1")
            await source.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    "head",
    [b"*-5\r\n", b"$-7\r\n", b"*1\r\n" * 10_000, b"%1\r\n*0\r\n:1\r\n", b"*-99999999999999999999999\r\n", b"$?\r\n",
     b"*+5\r\n", b"*" + b"1" * 100, b"=2\r\nab\r\n", b"\x00\x00", b"#x\r\n"],
)  # fmt: skip
def test_what_is_no_reply_is_said(head: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(head)
        await reader.read()

    async def main() -> None:
        async with listening(serve) as port, asyncio.timeout(60):
            source = open_url(f"redis://127.0.0.1:{port}?timeout=30")
            with pytest.raises(Disconnected, match="does not answer as Redis does"):
                await source.get("a/1")
            await source.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("head", [b"$99999\r\n", b"*9\r\n$99999\r\n", b"+"])
def test_an_answer_that_drips_is_given_up(head: bytes) -> None:
    """However little time passes between its bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(hello())
        await reader.read(100)
        await drip(writer, head)

    async def main() -> None:
        async with listening(serve) as port, asyncio.timeout(60):
            source = open_url(f"redis://127.0.0.1:{port}?timeout=0.2")
            with pytest.raises(Disconnected, match="no answer within"):
                await source.get("a/1")
            with pytest.raises(OutcomeUnknown, match="no answer within"):
                await source.commit([Put("a/1", b"1")])
            await source.aclose()

    asyncio.run(main())


def test_of_many_answers_one_that_drips_is_given_up() -> None:
    """Those before it came in time, and those behind it never do."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(hello())
        await reader.read(100)
        await drip(writer, b"$1\r\n1\r\n" * 500 + b"$99999\r\n")

    async def main() -> None:
        async with listening(serve) as port, asyncio.timeout(60):
            link = await Link.connect(Endpoint("127.0.0.1", port), Access(timeout=1.0))
            group = [("GET", b"a/1")] * 1_000
            with pytest.raises(OutcomeUnknown, match="no answer within"):
                await link.tell(*group)
            assert not link.ready
            with pytest.raises(Disconnected):
                await link.ask(*group)
            await link.aclose()

    asyncio.run(main())


@contextlib.asynccontextmanager
async def dripping_answers(timeout: float, pause: float) -> AsyncIterator[Link]:
    """A connection to a server that lets so many seconds pass between one answer and the next."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(hello())
        await reader.read(100)
        await drip(writer, b"", b"$1\r\n1\r\n", pause)

    async with listening(serve) as port, asyncio.timeout(60):
        link = await Link.connect(Endpoint("127.0.0.1", port), Access(timeout=timeout))
        yield link
        await link.aclose()


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        (Endpoint("127.0.0.1", 99_999), "there is no such port"),
        (Endpoint("a..b", 6379), "the name cannot be resolved"),
    ],
)
def test_a_server_names_another_by_what_is_not_an_address(endpoint: Endpoint, why: str) -> None:
    with pytest.raises(Disconnected, match=why):
        asyncio.run(Link.connect(endpoint, Access()))


def test_answers_that_each_come_just_in_time_are_given_up() -> None:
    """All that is asked together has the time of one answer;
    one by one these would take ten minutes.
    """

    async def main() -> None:
        async with dripping_answers(1.0, 0.6) as link:
            with pytest.raises(OutcomeUnknown, match="no answer within 1 s"):
                await link.tell(*[("GET", b"a/1")] * 1_000)
            assert not link.ready

    asyncio.run(main())


def test_what_waits_behind_others_has_its_time_after_theirs() -> None:
    async def main() -> None:
        async with dripping_answers(2.0, 0.3) as link:
            asked = [link.ask(("GET", b"a/1")) for _ in range(10)]
            assert await asyncio.gather(*asked) == [[b"1"]] * 10

    asyncio.run(main())


def test_values_that_look_like_announcements_are_values() -> None:
    """With a real server: whatever a value holds, and wherever the pieces of the stream are cut."""
    value = b"a\r\n*2147483647\r\n%9999999\r\n$99999999\r\n>1\r\n\n*\n~" * 50

    async def main() -> None:
        async with redis_server() as server:
            items = {f"a/{number:03}": value + b"\r\n*" * (number % 3) for number in range(100)}
            await server.fill(items)
            async with watched(f"{server.url}?{_LIMIT}", "a/") as (sync, probe):
                await sync.ready(60)
                await equal(probe, items)
                await sync.put("a/000", value * 100, confirm=True)
                assert probe.state["a/000"] == value * 100

    asyncio.run(main())


def test_a_value_that_is_too_large_is_named_and_read_once_it_is_allowed() -> None:
    async def main() -> None:
        async with redis_server() as server:
            await server.fill({"a/1": b"1", "a/huge": b"x" * (2 * _MIB)})
            async with watched(f"{server.url}?{_LIMIT}", "a/", **QUICK) as (sync, _):
                await eventually(lambda: lost_because(sync, "'a/huge'"))
                assert "max_answer=" in (sync.status().sources[0].error or "")
                with pytest.raises(AnswerTooLarge):
                    await sync.get("a/huge")
                assert await sync.get("a/1") is not None
                await server.do("DEL", "a/huge")
                await eventually(lambda: state_of(sync) == "following")
            async with watched(f"{server.url}?max_answer={3 * _MIB}", "a/") as (sync, _):
                await sync.ready(60)

    asyncio.run(main())


def test_many_values_that_are_too_large_together_are_read_all_the_same() -> None:
    """Small ones first, so that the size of the answers is guessed wrong."""

    async def main() -> None:
        async with redis_server() as server:
            items = {f"a/{number:04}": b"s" for number in range(4_000)}
            items |= {f"a/large/{number:02}": bytes([number]) * (_MIB // 4) for number in range(24)}
            await server.fill(items)
            async with watched(f"{server.url}?{_LIMIT}", "a/", **QUICK) as (sync, probe):
                await sync.ready(60)
                await equal(probe, items)

    asyncio.run(main())


def test_lists_of_values_that_are_too_large_together_adapt() -> None:
    """Small ones first, as above; one that is too large by itself is still an error,
    and told of at once.
    """

    async def main() -> None:
        async with redis_server() as server, DataSync(f"{server.url}?{_LIMIT}") as sync:
            items = {f"a/{number:04}": b"s" for number in range(400)}
            items |= {f"a/large/{number:02}": bytes([number]) * (_MIB // 4) for number in range(24)}
            await server.fill(items)
            assert {kv.key: kv.raw async for kv in sync.list("a/")} == items
            assert {kv.key: kv.raw async for kv in sync.list("a/large/")} == {
                key: raw for key, raw in items.items() if key.startswith("a/large/")
            }
            found = await sync.get("a/large/07")
            assert found is not None
            assert found.raw == items["a/large/07"]

            await server.fill({"b/huge": b"x" * (2 * _MIB), "b/1": b"1"})
            with pytest.raises(AnswerTooLarge, match="max_answer="):
                [kv async for kv in sync.list("b/")]

    asyncio.run(main())


def test_lists_of_a_server_that_does_not_tell_sizes_adapt() -> None:
    """Not everybody may ask; then it is less at once until it fits."""

    def values(_: int, words: int) -> bytes:
        return b"*%d\r\n" % (words - 1) + (b"$400000\r\n" + b"x" * 400_000 + b"\r\n") * (words - 1)

    async def main() -> None:
        keys = b"".join(b"$4\r\na/%02d\r\n" % number for number in range(40))
        answers: dict[bytes, Said] = {
            b"SCAN": b"*2\r\n$1\r\n0\r\n*40\r\n" + keys, b"MGET": values,
            b"STRLEN": b"-NOPERM no\r\n",
        }  # fmt: skip
        async with fake(answers) as port, asyncio.timeout(60):
            source = open_url(f"redis://127.0.0.1:{port}?{_LIMIT}")
            page, _ = await source.page("a/", None, 100)
            assert len(page) == 40
            await source.aclose()

    asyncio.run(main())


def test_what_was_too_large_is_not_asked_for_again_after_a_close() -> None:
    async def main() -> None:
        greeted = 0

        def greet(count: int, _: int) -> bytes:
            nonlocal greeted
            greeted = count
            return hello()

        async with fake({b"HELLO": greet}) as port, asyncio.timeout(60):
            access = Access()
            shared = Shared(lambda: Single.open(Endpoint("127.0.0.1", port), access), 30.0)

            async def too_large(store: Store) -> None:
                await shared.aclose()
                raise AnswerTooLarge("more than was expected")

            with pytest.raises(WatchClosed):
                await shared.use(too_large, again=(AnswerTooLarge,))
            assert greeted == 1

    asyncio.run(main())


def test_more_changes_than_may_wait_are_read_anew() -> None:
    """What waits does not grow with each push: all is read as a whole instead."""
    push = b"".join(
        b">2\r\n$10\r\ninvalidate\r\n*1\r\n$8\r\na/%06d\r\n" % number for number in range(20_000)
    )
    reads: list[int] = []

    def scanned(count: int, _: int) -> bytes:
        reads.append(count)
        return b"*2\r\n$1\r\n0\r\n*1\r\n$3\r\na/1\r\n"

    def values(_: int, words: int) -> bytes:
        return b"*%d\r\n" % (words - 1) + b"$1\r\n1\r\n" * (words - 1)

    async def main() -> None:
        answers: dict[bytes, Said] = {b"SCAN": scanned, b"MGET": values, b"STRLEN": b":1\r\n"}
        async with (
            fake(answers) as port,
            watched(
                f"redis://127.0.0.1:{port}?{_LIMIT}", "a/", ping_interval=0.05, ping_timeout=30
            ) as (sync, _),
        ):
            await sync.ready(60)
            before = len(reads)
            answers[b"HELLO"] = hello() + push
            await eventually(lambda: len(reads) > before)
            assert state_of(sync) == "following"

    asyncio.run(main())


_SCANS: dict[str, Said] = {
    "the same cursor": b"*2\r\n$1\r\n5\r\n*0\r\n",
    "in a circle": lambda count, _: b"*2\r\n$1\r\n%d\r\n*1\r\n$3\r\na/1\r\n" % (1 + count % 3),
    "ever new ones": lambda count, _: b"*2\r\n$5\r\n%05d\r\n*0\r\n" % count,
    "no cursor": b"*2\r\n:5\r\n*0\r\n",
    "no list": b"$3\r\nabc\r\n",
    "one of three": b"*3\r\n$1\r\n0\r\n*0\r\n*0\r\n",
    "numbers": b"*2\r\n$1\r\n0\r\n*1\r\n:1\r\n",
    "nothing": b"_\r\n",
}


@pytest.mark.parametrize("scan", _SCANS)
def test_a_scan_comes_to_an_end(scan: str) -> None:
    async def main() -> None:
        answers: dict[bytes, Said] = {
            b"SCAN": _SCANS[scan],
            b"MGET": b"*1\r\n$1\r\n1\r\n",
            b"DBSIZE": b":3\r\n",
        }
        async with fake(answers) as port, asyncio.timeout(60):
            source = open_url(f"redis://127.0.0.1:{port}?timeout=30")
            with pytest.raises(Disconnected, match=r"SCAN does not end|does not answer as Redis"):
                await source.page("a/", None, 10)
            await source.aclose()
            async with watched(f"redis://127.0.0.1:{port}", "a/", **QUICK) as (sync, _):
                await eventually(
                    lambda: state_of(sync) == "lost" and bool(sync.status().sources[0].error)
                )

    asyncio.run(main())


_ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "too few values": (b"MGET", b"*0\r\n"),
    "values that are numbers": (b"MGET", b"*1\r\n:1\r\n"),
    "no values": (b"MGET", b"+OK\r\n"),
    "a greeting that is none": (b"HELLO", b":3\r\n"),
    "a greeting of other types": (b"HELLO", b"%2\r\n$4\r\nmode\r\n:1\r\n$4\r\nrole\r\n*0\r\n"),
    "an endless error": (b"MGET", b"-ERR " + b"x" * 100_000 + b"\r\n"),
    "a push that is empty": (b"MGET", b">0\r\n"),
    "a push of numbers": (b"MGET", b">2\r\n$10\r\ninvalidate\r\n:5\r\n"),
}


@pytest.mark.parametrize("answer", _ANSWERS)
def test_answers_of_another_form_are_typed_errors(answer: str) -> None:
    async def main() -> None:
        name, said = _ANSWERS[answer]
        async with fake({name: said}) as port, asyncio.timeout(60):
            source = open_url(f"redis://127.0.0.1:{port}?timeout=1")
            with pytest.raises(DataSyncError) as caught:
                await source.get("a/1")
            assert len(str(caught.value)) < 1_000
            await source.aclose()

    asyncio.run(main())


def test_a_kind_of_value_that_is_no_text_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def said() -> list[str]:
        return [record.getMessage() for record in logged(caplog)]

    async def main() -> None:
        answers: dict[bytes, Said] = {b"MGET": b"*1\r\n_\r\n", b"TYPE": b"+\xd2x\r\n"}
        async with fake(answers) as port, asyncio.timeout(60):
            source = open_url(f"redis://127.0.0.1:{port}")
            assert await source.get("a/kind") is None
            await eventually(said)
            await source.aclose()

    asyncio.run(main())
    assert "a/kind" in said()[0]
    assert [record.name for record in logged(caplog)] == ["datasync.redis"]


@pytest.mark.parametrize(
    "said", [b"*0\r\n", b"$1\r\nx\r\n", b"*2\r\n:1\r\n:1\r\n", b"*99999999\r\n", b"$-5\r\n"]
)
def test_a_write_whose_answer_is_not_understood_is_unknown(said: bytes) -> None:
    async def main() -> None:
        async with fake({b"SET": said, b"UNLINK": said}) as port, asyncio.timeout(60):
            source = open_url(f"redis://127.0.0.1:{port}?{_LIMIT}")
            for operation in (Put("a/1", b"1"), Delete("a/1")):
                with pytest.raises(OutcomeUnknown):
                    await source.commit([operation])
            await source.aclose()

    asyncio.run(main())


# -- clusters --------------------------------------------------------------------------------------

_NODE = b"0123 127.0.0.1:%d@1 myself,master - 0 0 1 connected %s\n"


def _nodes(port: int, slots: bytes) -> bytes:
    text = _NODE % (port, slots)
    return b"$%d\r\n%s\r\n" % (len(text), text)


@pytest.mark.parametrize(
    "slots",
    [
        b"0-300000000",
        b"0-16384",
        b"16383-0",
        b"-5-3",
        b"x-y",
        b"0-16383 0-16383",
        b"0-" + b"9" * 500,
    ],
)
def test_slots_that_no_cluster_has(slots: bytes) -> None:
    """At the start, and when they are looked at again."""

    async def main() -> None:
        answers: dict[bytes, Said] = {}
        async with fake(answers, b"cluster") as port, asyncio.timeout(60):
            answers[b"CLUSTER NODES"] = _nodes(port, slots)
            source = open_url(f"redis+cluster://127.0.0.1:{port}")
            with memory_below(32 * _MIB):
                with pytest.raises(Disconnected, match="CLUSTER NODES"):
                    await source.get("a/1")
                answers |= {
                    b"CLUSTER NODES": _nodes(port, b"0-16383"),
                    b"GET": b"$1\r\n1\r\n",
                    b"SCAN": b"*2\r\n$1\r\n0\r\n*0\r\n",
                }
                async with watched(
                    f"redis+cluster://127.0.0.1:{port}", "a/", **QUICK | {"ping_interval": 0.05}
                ) as (
                    sync,
                    _,
                ):
                    await sync.ready(60)
                    answers[b"CLUSTER NODES"] = _nodes(port, slots)
                    await eventually(
                        lambda: "CLUSTER NODES" in (sync.status().sources[0].error or "")
                    )
            await source.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    "said",
    [
        "MOVED x y",
        "MOVED",
        "MOVED 1",
        "MOVED 300000000 127.0.0.1:1",
        "ASK 1 127.0.0.1:x",
        "ASK 5 y:99999",
    ],
)
def test_redirections_that_lead_nowhere(said: str) -> None:
    async def main() -> None:
        reply = f"-{said}\r\n".encode()
        answers: dict[bytes, Said] = {b"GET": reply, b"SET": reply, b"UNLINK": reply}
        async with fake(answers, b"cluster") as port, asyncio.timeout(60):
            answers[b"CLUSTER NODES"] = _nodes(port, b"0-16383")
            source = open_url(f"redis+cluster://127.0.0.1:{port}")
            for request in (
                source.get("a/1"),
                source.commit([Put("a/1", b"1")]),
                source.commit([Delete("a/1")]),
            ):
                with pytest.raises(DataSyncError, match="nothing was done"):
                    await request
            await source.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("said", [b"%0\r\n", b"+x\r\n", b"%1\r\n$2\r\nip\r\n:1\r\n"])
def test_a_sentinel_that_does_not_know_what_it_says(said: bytes) -> None:
    async def main() -> None:
        async with fake({b"SENTINEL": said}, b"sentinel") as port, asyncio.timeout(60):
            source = open_url(f"redis+sentinel://127.0.0.1:{port}/name")
            with pytest.raises(Disconnected, match=r"primary|does not answer as Redis"):
                await source.get("a/1")
            await source.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("value", ["0", "-1", "65535", "many", "1e9", "²", "9" * 30, ""])
def test_a_bound_that_is_none(value: str) -> None:
    with pytest.raises(BadUrl, match="max_answer= takes a number of bytes >= 65536"):
        open_url(f"redis://127.0.0.1?max_answer={value}")
