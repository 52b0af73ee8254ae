"""What a transport gives the suite: a fresh store, a second way to write to
it, and hooks that break it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from datasync import Backoff, DataSync, Watch, WatchClosed
from datasync.capabilities import Capabilities
from datasync.source import Source
from datasync.testing.contract.probe import Answer, Probe
from datasync.testing.contract.waiting import eventually
from datasync.transports import open_url

__all__ = ["Hook", "Store", "Writer", "eventually", "fill"]

Hook = Callable[[], Awaitable[None]]
_BATCH = 500


class Writer(Protocol):
    """What the suite needs of a writer to the store: a DataSync has it."""

    async def put(self, key: str, value: Any, /) -> int | None:
        """Store `value` (bytes)."""

    async def delete(self, key: str, /, *, prefix: bool = False) -> bool:
        """Delete; tells whether there was something."""

    def txn(self) -> Any:
        """A transaction: put and delete chained, then `await commit()`."""


@dataclasses.dataclass(kw_only=True)
class Store:
    """A store for one test: fresh, empty, and not shared with another test
    that runs at the same time.

    url: what a DataSync opens, text or a Source.
    prefix: where the test's keys live, if the store is shared.
    direct: another way to the same store, used by `other()`, that still works while `url` is lost.
    writer: for sources that take no writes themselves: makes the independent writer.
    shortest_ttl: in seconds.
    secrets: texts that no message may show.

    Hooks, all optional, each an async function without arguments: lose / restore: the source cannot
    be reached through `url` any more, and can again. Sessions break. freeze / thaw: it does not
    answer any more although the connection stands (SIGSTOP, a half-open connection).
    empty: the store starts a new history without any data.
    compact: forget all that is older than now.
    expire_session: end what the server keeps for the connections of `url`, from its side.
    lose_verdicts: for sources with `reply`: what verdicts would come over
    dies, while they are waited for.

    odd_keys: keys that the store can hold, yet the API cannot name, some of them under "a/": no
        text, or empty.
    put_raw, has_raw: as another program does it, store a value under any bytes, and tell whether
        there is one.
    """

    url: str | Source
    prefix: str = ""
    direct: str | Source | None = None
    writer: Callable[[], contextlib.AbstractAsyncContextManager[Writer]] | None = None
    shortest_ttl: float = 0.2
    secrets: tuple[str, ...] = ()
    lose: Hook | None = None
    restore: Hook | None = None
    freeze: Hook | None = None
    thaw: Hook | None = None
    empty: Hook | None = None
    compact: Hook | None = None
    expire_session: Hook | None = None
    odd_keys: Sequence[bytes] = ()
    put_raw: Callable[[bytes, bytes], Awaitable[object]] | None = None
    has_raw: Callable[[bytes], Awaitable[bool]] | None = None
    lose_verdicts: Hook | None = None
    probes: list[Probe] = dataclasses.field(default_factory=list, init=False)
    _capabilities: Capabilities | None = dataclasses.field(default=None, init=False)

    @property
    def capabilities(self) -> Capabilities:
        """What the source declares."""
        if self._capabilities is None:
            self._capabilities = self.source().capabilities
        return self._capabilities

    def source(self) -> Source:
        """The source that `url` names."""
        return open_url(self.url) if isinstance(self.url, str) else self.url

    def open(self, *, url: str | Source | None = None, **options: Any) -> DataSync:
        """A DataSync on this store, not started, with short waits so that tests are quick."""
        if "label" not in options:
            options.setdefault("prefix", self.prefix or None)
        options.setdefault("reconnect", Backoff(initial=0.01, maximum=0.1))
        options.setdefault("retry", Backoff(initial=0.01, maximum=0.05))
        return DataSync(self.url if url is None else url, **options)

    def probe(
        self,
        sync: DataSync,
        name: str,
        *prefixes: str,
        answers: Sequence[Answer] = (),
        **options: Any,
    ) -> Probe:
        """Register a Probe as a handler of `sync`; at the end of the test
        it is asked for its faults."""
        watched = (*prefixes, *options.get("keys", ()))
        probe = Probe(
            *answers, name=name, prefixes=watched, ordered=self.capabilities.order == "total"
        )
        self.probes.append(probe)
        register: Callable[[Probe], object] = sync.watcher(*prefixes, name=name, **options)
        register(probe)
        return probe

    @contextlib.asynccontextmanager
    async def stream(
        self, sync: DataSync, name: str, *prefixes: str, **options: Any
    ) -> AsyncIterator[tuple[Watch[Any], Probe]]:
        """The same for a stream, which is iterated within the block."""
        watch: Watch[Any] = sync.watch(name, *prefixes, **options)
        probe = Probe(name=name, prefixes=prefixes, ordered=self.capabilities.order == "total")
        self.probes.append(probe)

        async def iterate() -> None:
            with contextlib.suppress(WatchClosed):
                async for event in watch:
                    try:
                        await probe(event)
                    except Exception as error:
                        event.done(error)

        task = asyncio.create_task(iterate())
        await asyncio.sleep(0)  # it has begun: `ready` waits for this stream too
        try:
            yield watch, probe
        finally:
            task.cancel()
            await asyncio.wait([task])

    @contextlib.asynccontextmanager
    async def other(self) -> AsyncIterator[Writer]:
        """A writer that shares nothing with the DataSync under test but the store."""
        if self.writer is not None:
            async with self.writer() as writer:
                yield writer
            return
        async with self.open(url=self.direct) as sync:
            yield sync


async def fill(writer: Writer, items: Mapping[str, bytes], capabilities: Capabilities) -> None:
    """Write all items, in transactions where there are any."""
    pairs = list(items.items())
    if not capabilities.transactions:
        for key, value in pairs:
            await writer.put(key, value)
        return
    for at in range(0, len(pairs), _BATCH):
        txn = writer.txn()
        for key, value in pairs[at : at + _BATCH]:
            txn.put(key, value)
        await txn.commit()
