"""What parts of the application show on the status page, in a real browser."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from datasync import Backoff, DataSync, NotApplied
from datasync.reconcile import Reconciler
from tests.helpers.reconcile.things import Thing, Things
from tests.helpers.rest.browser import Browser
from tests.helpers.rest.page_host import seen_by
from tests.restsync.test_page import CONTRAST, wait

pytestmark = [pytest.mark.once, pytest.mark.alone("browser")]

Run = Callable[[Coroutine[Any, Any, None]], None]

HOSTILE = "net/<img src=x onerror=alert(1)>"
BOXES = "return [...document.querySelectorAll('.graph .box title')].map((e) => e.textContent)"


def check(seen: Browser) -> None:
    wait(lambda: seen.text(".panel h2") == "reconcile")
    wait(lambda: seen.js(BOXES) == ["net/fails, failed"])
    rows = "return [...document.querySelectorAll('.panel tbody th')].map((e) => e.textContent)"
    assert seen.js(rows) == ["net/", "net/fails", HOSTILE]
    assert "create: OSError: no such device" in seen.text(".panel")
    assert not seen.js("return document.querySelectorAll('.panel img').length")
    assert "create net/a" in seen.text(".timeline")
    width = "return document.querySelector('.timeline i').getBoundingClientRect().width"
    assert seen.js(width) > 0

    # another object is chosen, by its row and then in the drawing
    seen.js("document.querySelector('.panel tbody tr:nth-child(2) button').click()")
    wait(lambda: seen.js(BOXES) == [f"{HOSTILE}, pending", "net/gone, absent"])
    assert seen.js("return document.querySelectorAll('.arrow.dashed').length") == 1
    seen.js(
        "document.querySelector(\".box[aria-label='net/gone, absent']\")"
        ".dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter'}))"
    )
    wait(lambda: seen.text(".panel").count("Around net/gone") == 1)

    for dark in (False, True):
        seen.look(dark=dark)
        assert not seen.js(CONTRAST)
    seen.look(width=360, height=740)
    assert seen.js("return document.scrollingElement.scrollWidth <= innerWidth")


def test_a_reconciler_on_the_page(run: Run) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=20.0, retry=Backoff(600, 600))
            rec.add("net/", Things(), type=Thing)
            async with rec:
                await sync.ready(60)
                txn = sync.txn().put("net/a", Thing()).put("net/fails", Thing(fails=True))
                with contextlib.suppress(NotApplied):
                    await txn.put(HOSTILE, Thing(["net/gone"])).commit(confirm=60)
                served = await sync.serve_status("127.0.0.1:0")
                port = int(served.url.rpartition(":")[2])
                await asyncio.to_thread(seen_by, port, check)

    run(main())
