"""G10, G12: what a client had not sent when it was closed is never sent,
and who waited hears it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from datasync import DataSync, OutcomeUnknown, WatchClosed
from datasync.testing.contract import eventually
from tests.helpers.load import QUICK
from tests.helpers.servers import connections_to, scratch
from tests.helpers.serving.serve_process import ServeProcess

Run = Callable[[Any], None]
VALUE = bytes(200_000)

each_client = pytest.mark.parametrize(
    ("protocol", "scheme"), [("http", "http"), ("grpc", "grpc"), ("grpc", "grpc+watch")]
)


@contextlib.asynccontextmanager
async def served(protocol: str) -> AsyncIterator[ServeProcess]:
    """A server of its own; ended with the block."""
    async with scratch() as directory:
        server = ServeProcess("memory://", directory, protocol)
        await server.start()
        try:
            yield server
        finally:
            server.end()


@each_client
def test_writes_that_wait_on_a_hung_server(run: Run, protocol: str, scheme: str) -> None:
    async def main() -> None:
        async with served(protocol) as server:
            url = f"{scheme}://127.0.0.1:{server.port}"
            sync = DataSync(f"{url}?timeout=60", **QUICK)
            await sync.start()
            await sync.put("before", b"1")
            await server.pause()
            puts = [asyncio.create_task(sync.put(f"a/{number}", VALUE)) for number in range(300)]
            await asyncio.sleep(0.3)
            assert not any(put.done() for put in puts)

            heard: list[float] = []
            for put in puts:
                put.add_done_callback(lambda _: heard.append(time.monotonic()))
            began = time.monotonic()
            closing = asyncio.create_task(sync.aclose())
            ended = await asyncio.gather(*puts, return_exceptions=True)
            assert max(heard) - began < 30  # far below what a request may take
            # grpc waits some seconds for a socket that takes nothing
            async with asyncio.timeout(60):
                await closing
            assert {type(error) for error in ended} <= {WatchClosed, OutcomeUnknown}
            never = {
                f"a/{number}"
                for number, error in enumerate(ended)
                if isinstance(error, WatchClosed)
            }
            assert never
            await eventually(lambda: not connections_to(server.port))

            server.resume()
            async with DataSync(url, **QUICK) as later:
                await later.put("after", b"1")
                await asyncio.sleep(0.5)  # whatever is still on its way arrives now
                assert not never & {kv.key async for kv in later.list("a/")}

    run(main())


async def _listed(sync: DataSync) -> None:
    async for _ in sync.list("a/"):
        pass


@pytest.mark.parametrize("asked", [True, False], ids=["connected", "not yet connected"])
@each_client
def test_reads_that_wait_on_a_hung_server(
    run: Run, protocol: str, scheme: str, asked: bool
) -> None:
    async def main() -> None:
        async with served(protocol) as server:
            url = f"{scheme}://127.0.0.1:{server.port}?timeout=60"
            sync = DataSync(url, **QUICK)
            await sync.start()
            if asked:
                await sync.put("a/1", b"1")
                await sync.get("a/1")
            await server.pause()
            reads = [asyncio.create_task(read) for read in (sync.get("a/1"), _listed(sync))]
            await asyncio.sleep(0.3)
            assert not any(read.done() for read in reads)

            closing = asyncio.create_task(sync.aclose())
            done, _ = await asyncio.wait(reads, timeout=30)  # half of what they may take
            await closing
            assert done == set(reads)
            for read in reads:
                with pytest.raises(WatchClosed):
                    await read

    run(main())
