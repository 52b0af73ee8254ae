"""The contract suite through what stands before a source: a root, a label, a recorder's tap."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest

from datasync import DataSync, OutcomeUnknown
from datasync.source import Committed, Operation, Result, Source
from datasync.testing import EXACT, FaultySource, Recorder
from datasync.testing.contract import ContractSuite, Store
from datasync.testing.contract.waiting import eventually

REPLYING = msgspec.structs.replace(EXACT, reply=True)


def faulty_store(source: FaultySource, url: Source, prefix: str) -> Store:
    """A store whose verdicts can be lost, and whose sessions can be cut."""

    async def lose_verdicts() -> None:
        source.lose_verdicts()

    async def expire_session() -> None:
        source.disconnect()

    return Store(
        url=url,
        prefix=prefix,
        direct=url,
        lose_verdicts=lose_verdicts,
        expire_session=expire_session,
    )


class TestRooted(ContractSuite):
    """A faulty source with verdicts, below a prefix."""

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        source = FaultySource(capabilities=REPLYING, bookmarks=True)
        yield faulty_store(source, source, "cfg/")


class TestTappedBelowALabel(ContractSuite):
    """The same, recorded, below the prefix that a label stands for."""

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        source = FaultySource(capabilities=REPLYING, bookmarks=True)
        yield faulty_store(source, Recorder().source(source), "/vnf-agent/vpp1/")


class Relaying(FaultySource):
    """Asks watches elsewhere, beside those of the DataSyncs that follow it."""

    forwards_verdicts = True

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: list[asyncio.Future[Result]] = []

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        committed = await super().commit(operations)
        if not reply:
            return committed
        self.elsewhere.append(asyncio.get_running_loop().create_future())
        return msgspec.structs.replace(committed, result=self.elsewhere[-1])


@pytest.mark.parametrize("where", [{}, {"prefix": "cfg/"}, {"label": "vpp1"}])
@pytest.mark.parametrize("fails", [True, False], ids=["fails", "is cancelled"])
def test_a_verdict_from_elsewhere_that_fails_is_heard(
    run: Callable[[Any], None], where: dict[str, str], fails: bool
) -> None:
    async def main() -> None:
        source = Relaying()
        async with DataSync(source, **where) as sync:  # type: ignore[arg-type]
            put = asyncio.ensure_future(sync.put("a/1", b"1", confirm=True))
            await eventually(lambda: source.elsewhere)
            if fails:
                source.elsewhere[0].set_exception(OutcomeUnknown("lost on the way"))
            else:
                source.elsewhere[0].cancel()
            with pytest.raises(OutcomeUnknown):
                await asyncio.wait_for(put, 60)

    run(main())


del ContractSuite  # so that it is not collected itself
