"""Spans of OpenTelemetry: from the write through RESYNC or CHANGE to the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from datasync import (
    Backoff,
    ChangeEvent,
    DataSync,
    NotApplied,
    Refused,
    UsageError,
    open_url,
)
from datasync.restsync import RestSource
from datasync.restsync.listener import Listener
from datasync.testing.contract.waiting import eventually
from datasync.traceparent import carried, carrying
from tests.helpers.servers import free_ports

Run = Callable[[Coroutine[Any, Any, None]], None]


class Spans:
    """What a provider of its own was given."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def named(self, name: str) -> list[ReadableSpan]:
        """Those of that name that have ended, in their order."""
        return [span for span in self._exporter.get_finished_spans() if span.name == name]


def attribute(span: ReadableSpan, name: str) -> object:
    """One that datasync set."""
    return (span.attributes or {}).get(f"datasync.{name}")


def is_child(span: ReadableSpan, of: ReadableSpan) -> bool:
    """Whether it is in the trace of the other, right below it."""
    assert of.context is not None
    return span.parent is not None and span.parent.span_id == of.context.span_id


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("kind", ["async", "thread", "stream"])
def test_a_span_of_the_write_and_one_of_each_delivery_below_it(
    run: Run, tmp_path: Path, store: str, kind: str
) -> None:
    async def main() -> None:
        spans = Spans()
        url = "memory://" if store == "memory" else f"sqlite:///{tmp_path}/a.db"
        async with DataSync(url, prefix="net/") as sync:
            sync.trace(spans.provider)
            await sync.ready(60)  # else the RESYNC may be that of the start
            seen: list[int] = []

            def note() -> None:
                seen.append(trace.get_current_span().get_span_context().span_id)

            async def handle(event: Any) -> None:
                note()

            def handle_in_thread(event: Any) -> None:
                note()

            reader = None
            if kind == "stream":
                watch = sync.watch("it", "a/")

                async def read() -> None:
                    async for _ in watch:
                        pass

                reader = asyncio.ensure_future(read())
            else:
                sync.watcher("a/", name="it")(handle if kind == "async" else handle_in_thread)
            await eventually(lambda: spans.named("it RESYNC"))
            await sync.txn().put("a/1", b"1").put("a/2", b"2").commit(confirm=True)
            await sync.delete("a/1", confirm=True)
            await eventually(lambda: len(spans.named("it CHANGE")) == 2)
            if reader is not None:
                reader.cancel()

        [resync] = spans.named("it RESYNC")
        assert attribute(resync, "reason") in ("start", "registered")
        assert attribute(resync, "keys") == 0
        assert attribute(resync, "verdict") == "accepted"
        assert resync.parent is None
        [txn], [delete] = spans.named("datasync txn"), spans.named("datasync delete")
        assert txn.kind is SpanKind.PRODUCER
        assert (attribute(txn, "keys"), attribute(txn, "verdict")) == (2, "accepted")
        for write, change in zip((txn, delete), spans.named("it CHANGE"), strict=True):
            assert is_child(change, write)
            assert change.kind is SpanKind.CONSUMER
            assert attribute(change, "watch") == "it"
            assert attribute(change, "revision") == attribute(write, "revision")
            assert attribute(change, "verdict") == "accepted"
        if kind != "stream":  # what the handler does is below its span
            ids = [
                span.context.span_id for span in (resync, *spans.named("it CHANGE")) if span.context
            ]
            assert seen == ids

    run(main())


def test_what_fails_or_is_refused_says_so(run: Run) -> None:
    async def main() -> None:
        spans = Spans()
        async with DataSync("memory://", retry=Backoff(initial=0.001, maximum=0.001)) as sync:
            sync.trace(spans.provider)
            failed = False

            @sync.watcher("")
            async def picky(event: Any) -> None:
                nonlocal failed
                if isinstance(event, ChangeEvent) and not failed:
                    failed = True
                    raise RuntimeError("not yet")
                if isinstance(event, ChangeEvent):
                    raise Refused({"a": "no"})

            await sync.ready(60)
            with pytest.raises(NotApplied):
                await sync.put("a", b"1", confirm=True)
            await eventually(lambda: len(spans.named("picky CHANGE")) == 2)

        [put] = spans.named("datasync put")
        first, second = spans.named("picky CHANGE")
        assert is_child(first, put)
        assert is_child(second, put)
        verdicts = [
            (attribute(span, "verdict"), attribute(span, "attempt")) for span in (first, second)
        ]
        assert verdicts == [("failed", 1), ("refused", 2)]
        assert first.status.status_code is second.status.status_code is StatusCode.ERROR
        [raised] = first.events
        assert (raised.attributes or {})["exception.message"] == "not yet"
        assert attribute(second, "refused_keys") == 1
        assert attribute(put, "verdict") == "failed"
        assert put.status.status_code is StatusCode.ERROR

    run(main())


def test_a_fold_is_linked_to_all_writes_that_it_came_of(run: Run) -> None:
    async def main() -> None:
        spans = Spans()
        go = asyncio.Event()
        async with DataSync("memory://", backlog=1) as sync:
            sync.trace(spans.provider)

            @sync.watcher("", ack_timeout=60)
            async def slow(event: Any) -> None:
                if isinstance(event, ChangeEvent):
                    await go.wait()

            await sync.ready(60)
            for key in "abc":
                await sync.put(key, b"1")
            go.set()
            await eventually(lambda: len(spans.named("slow CHANGE")) == 2)
        puts = [span.context for span in spans.named("datasync put")]
        first, fold = spans.named("slow CHANGE")
        assert first.parent == puts[0]
        assert fold.parent is None
        assert [link.context for link in fold.links] == puts[1:]

    run(main())


def test_the_trace_of_a_client_goes_on_in_the_agent(run: Run) -> None:
    async def main() -> None:
        here, there = Spans(), Spans()
        async with DataSync("memory://") as agent:
            agent.trace(there.provider)

            @agent.watcher("a/")
            async def config(event: Any) -> None: ...

            await agent.ready(60)
            url = (await agent.serve_status("127.0.0.1:0", writable=True)).url
            async with DataSync(url) as client:
                client.trace(here.provider)
                await client.put("a/1", b"1")
            await eventually(lambda: there.named("config CHANGE"))
            [put], [write] = here.named("datasync put"), there.named("datasync put")
            [change] = there.named("config CHANGE")
            assert is_child(change, write)
            assert put.context is not None
            assert write.context is not None
            assert write.context.trace_id == put.context.trace_id
            assert is_child(write, put)

    run(main())


def test_the_trace_of_any_http_client_goes_on_in_an_agent_that_it_pushes_to(run: Run) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def main() -> None:
        spans = Spans()
        source = RestSource(empty=True)
        async with DataSync(source) as agent:
            agent.trace(spans.provider)

            @agent.watcher("a/")
            async def config(event: Any) -> None: ...

            await agent.ready(60)
            listener = Listener(source.app)
            await listener.start("127.0.0.1", 0)
            url = f"http://127.0.0.1:{listener.port}/v1/keys"
            headers = {"traceparent": parent, "content-type": "application/json"}
            async with aiohttp.ClientSession(headers=headers) as client:
                async with client.put(f"{url}/a/1", data=b"1") as answer:
                    assert answer.status == 200
                async with client.put(
                    url, data=b'{"items": [{"key": "a/2", "value": "2"}]}'
                ) as answer:
                    assert answer.status == 200
                client.headers["traceparent"] = "nonsense"
                async with client.put(f"{url}/a/3", data=b"3") as answer:
                    assert answer.status == 200
            await eventually(lambda: len(spans.named("config CHANGE")) == 2)
            await listener.aclose()
        resync = spans.named("config RESYNC")[-1]
        first, second = spans.named("config CHANGE")
        for span in (first, resync):
            assert span.parent is not None
            assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" == parent[3:-3]
        assert second.parent is None

    run(main())


@pytest.mark.parametrize("scheme", ["grpc", "grpc+watch"])
def test_the_trace_of_a_grpc_client_goes_on_in_the_agent(run: Run, scheme: str) -> None:
    async def main() -> None:
        here, there = Spans(), Spans()
        [port] = free_ports(1)
        async with DataSync(f"grpc://127.0.0.1:{port}?initial=empty") as agent:
            agent.trace(there.provider)

            @agent.watcher("a/")
            async def config(event: Any) -> None: ...

            await agent.ready(60)
            async with DataSync(f"{scheme}://127.0.0.1:{port}") as client:
                await client.put("a/0", b"0")  # not traced
                client.trace(here.provider)
                async with asyncio.TaskGroup() as group:  # all of them over one stream
                    for key in ("a/1", "a/2", "a/3"):
                        group.create_task(client.put(key, b"1"))
                await client.delete("a/1")
            await eventually(lambda: len(there.named("config CHANGE")) == 5)

        untraced, *changes = there.named("config CHANGE")
        writes = here.named("datasync put") + here.named("datasync delete")
        assert untraced.parent is None
        assert len(writes) == 4
        # each change is below its own write, with the revision that the client heard of
        for write in writes:
            [change] = [change for change in changes if is_child(change, write)]
            assert attribute(change, "revision") == attribute(write, "revision")

    run(main())


def test_the_trace_of_a_resync_goes_on_over_grpc(run: Run) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def main() -> None:
        spans = Spans()
        [port] = free_ports(1)
        async with DataSync(f"grpc://127.0.0.1:{port}?initial=empty") as agent:
            agent.trace(spans.provider)

            @agent.watcher("a/")
            async def config(event: Any) -> None: ...

            await agent.ready(60)
            async with contextlib.aclosing(open_url(f"grpc://127.0.0.1:{port}")) as client:
                with carrying(parent):
                    # several messages, of which the first has the trace
                    await client.replace((f"a/{n}", b"x" * 400_000) for n in range(4))
                with carrying("nonsense"):
                    await client.replace([("a/1", b"1")])
            await eventually(lambda: len(spans.named("config RESYNC")) == 3)

        _, first, second = spans.named("config RESYNC")
        assert first.parent is not None
        assert f"{first.parent.trace_id:032x}-{first.parent.span_id:016x}" == parent[3:-3]
        assert second.parent is None

    run(main())


@pytest.mark.parametrize(
    ("given", "carried_on"),
    [
        (f"00-{'a' * 32}-{'b' * 16}-01", f"00-{'a' * 32}-{'b' * 16}-01"),
        (f" 00-{'a' * 32}-{'b' * 16}-00 ", f"00-{'a' * 32}-{'b' * 16}-00"),
        (f"cc-{'a' * 32}-{'b' * 16}-01-what the future brings", f"00-{'a' * 32}-{'b' * 16}-01"),
        (f"ff-{'a' * 32}-{'b' * 16}-01", None),
        (f"00-{'A' * 32}-{'b' * 16}-01", None),
        (f"00-{'a' * 32}-{'b' * 16}-01{'0' * 60_000}", None),
        ("nonsense", None),
        ("", None),
        (None, None),
    ],
)
def test_only_what_has_the_form_of_a_trace_is_carried_on(
    given: str | None, carried_on: str | None
) -> None:
    with carrying(given):
        assert carried() == carried_on
    assert carried() is None


def test_a_handler_keeps_the_context_of_its_registration(run: Run) -> None:
    mine: ContextVar[str] = ContextVar("mine", default="")

    async def main() -> None:
        seen = []
        mine.set("here")
        async with DataSync("memory://") as sync:
            sync.trace(Spans().provider)

            @sync.watcher("")
            async def it(event: Any) -> None:
                seen.append(mine.get())

            await sync.ready(60)
        assert seen == ["here"]

    run(main())


def test_closing_ends_the_spans_of_what_is_out(run: Run) -> None:
    async def main() -> None:
        spans, go = Spans(), threading.Event()
        async with DataSync("memory://", close_timeout=0.01) as sync:
            sync.trace(spans.provider)

            @sync.watcher("")
            def stuck(event: Any) -> None:
                go.wait()

            await eventually(lambda: sync.status().watches[0].state == "resyncing")
        go.set()
        [span] = spans.named("stuck RESYNC")
        assert attribute(span, "verdict") is None

    run(main())


def test_it_is_turned_on_once(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            sync.trace()  # of the global provider, which makes nothing
            await sync.put("a", b"1")
            with pytest.raises(UsageError, match="traced already"):
                sync.trace()

    run(main())


@pytest.mark.once
def test_what_is_not_traced_imports_nothing_of_it() -> None:
    program = (
        "import sys, asyncio, datasync\n"
        "async def main():\n"
        "    async with datasync.DataSync('memory://') as sync:\n"
        "        await sync.put('a', b'1')\n"
        "asyncio.run(main())\n"
        "assert 'datasync.tracing' not in sys.modules\n"
        "assert not any(name.startswith('opentelemetry') for name in sys.modules)\n"
        "sys.modules['opentelemetry'] = None\n"
        "try:\n"
        "    datasync.DataSync('memory://').trace()\n"
        "except datasync.MissingExtra as error:\n"
        "    assert 'datasync[otel]' in str(error), error\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
