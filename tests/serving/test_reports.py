"""Servers and relays hand reports on: agents and writers on either side of them hear each other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from datasync import DataSync, NotApplied, Reports, Verdict, open_url
from datasync.kvdbsync.memory import MemorySource
from datasync.testing.contract import eventually
from datasync.testing.contract.reporting import Readers
from tests.helpers.load import QUICK
from tests.helpers.reports.fleet import CONFIG, STATUS, agent_of
from tests.helpers.serving.restarts import free_address, serving

Run = Callable[[Coroutine[Any, Any, None]], None]

ASK = Reports(STATUS, agents=["vpp1"], timeout=60)


@pytest.mark.parametrize("scheme", ["grpc+watch", "http"])
@pytest.mark.parametrize("agent_is", ["at the store", "behind the relay"])
def test_reports_tickets_and_answers_go_through_a_server_and_a_relay(
    run: Run, scheme: str, agent_is: str
) -> None:
    async def main() -> None:
        store, upper, lower = MemorySource("store"), free_address(), free_address()
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(serving(scheme, upper, store))
            relayed = open_url(f"{scheme}://{upper}")
            await stack.enter_async_context(serving(scheme, lower, relayed))
            behind = open_url(f"{scheme}://{lower}")
            near, far = (store, behind) if agent_is == "at the store" else (behind, store)

            agent = await stack.enter_async_context(agent_of(near, **QUICK))
            ctl = await stack.enter_async_context(DataSync(far, **QUICK))
            readers = await stack.enter_async_context(Readers(ctl, STATUS).reading())
            await agent.ready(60)
            await eventually(lambda: readers.of().alive)

            revision = await ctl.put(CONFIG + "a", b"good", confirm=ASK)
            await eventually(lambda: [one.revision for one in readers.of().layers] == [revision])
            with pytest.raises(NotApplied) as caught:
                await ctl.put(CONFIG + "a", b"bad", confirm=ASK)
            assert caught.value.verdict is Verdict.REFUSED
            await readers.sees(a="refused")

    run(main())
