"""How the status page looks: on each screen, in each state; and the pictures of it in the documentation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from datasync import DataSync, Refused, Source
from datasync.kvdbsync.memory import MemorySource
from datasync.serving.pulse import Pulse
from datasync.testing import FaultySource
from datasync.testing.contract.reporting import Readers
from tests.helpers.rest.browser import Browser
from tests.helpers.rest.page_host import PageHost, page_host, seen_by
from tests.restsync.test_page import CONTRAST, wait
from tests.restsync.test_page_trouble import FITS, WIDTHS

pytestmark = [pytest.mark.once, pytest.mark.alone("browser")]

Run = Callable[[Coroutine[Any, Any, None]], None]

PICTURES = os.environ.get("DATASYNC_PICTURES")
"""The folder that the pictures go to, docs; otherwise they are made and thrown away."""
AGO = 11 * 60
"""Seconds for which the agent of the pictures has been there."""
UNNAMED = """
return [...document.querySelectorAll("button, input, a, [tabindex='0'], [role]")].filter((element) =>
  element.offsetParent && !element.ariaLabel && !element.getAttribute("aria-labelledby") && !element.textContent.trim() &&
  !element.labels?.length && element.role !== "presentation").map((element) => element.outerHTML.slice(0, 80));
"""
REACHED = """
return [...document.querySelectorAll("a[href], button, input, [tabindex='0']")]
  .filter((one) => one.offsetParent && !one.closest("dialog") && one.matches("#headline a, #troubles a, #tail, #tail-find, #tail-pause, #plot, #keys, #keys-find, #value"))
  .length;
"""
MOVING = """
const styles = [...document.querySelectorAll("*")].flatMap((element) =>
  ["", "::after"].map((part) => getComputedStyle(element, part)));
const moving = styles.filter((style) => style.animationName !== "none" || style.transitionDuration !== "0s");
return moving.length + (getComputedStyle(document.documentElement).scrollBehavior === "smooth" ? 1 : 0);
"""


def state() -> dict[str, bytes]:
    """The configuration of a router."""
    found: dict[str, Any] = {
        f"config/interface/eth{n}": {
            "name": f"eth{n}", "mtu": 1500, "enabled": True, "addresses": [f"192.0.2.{n * 8 + 1}/29"],
        }
        for n in range(24)
    }  # fmt: skip
    found |= {
        f"config/route/10.{n}.0.0-16": {"via": f"192.0.2.{n % 24 * 8 + 2}"} for n in range(64)
    }
    found |= {"config/bgp/asn": 64512, "config/bgp/peer/core-1": {"address": "198.51.100.1"}}
    values = {key: json.dumps(value).encode() for key, value in found.items()}
    return values | {
        "config/acl/web": b"permit tcp any any eq 443", "config/banner": b"edge-7, Helsinki",
    }  # fmt: skip


def agent(*, broken: bool) -> tuple[DataSync, FaultySource]:
    """That router's agent, all well or with two watches that fail."""
    source = FaultySource(state(), name="etcd://10.0.0.5:2379/edge-7", push=True, chunk=1000)
    sync = DataSync(source)

    async def accepts(event: Any) -> None:
        pass

    async def fails(event: Any) -> None:
        raise RuntimeError("netlink: no buffer space available (ENOBUFS)")

    async def refuses(event: Any) -> None:
        raise Refused({"config/acl/web": "port 443 is used by the management plane"})

    sync.watcher("config/interface/", name="interfaces")(accepts)
    sync.watcher("config/route/", "config/neighbour/", name="routes", retries=10**6)(
        fails if broken else accepts
    )
    sync.watcher("config/acl/", name="access-lists")(refuses if broken else accepts)
    sync.watcher("config/bgp/", name="bgp")(accepts)
    return sync, source


def writes(host: PageHost) -> None:
    """What somebody changes while one looks."""
    value = {"name": "eth3", "mtu": 9000, "enabled": True, "addresses": ["192.0.2.25/29"]}
    host.call(host.source.write, {"config/interface/eth3": json.dumps(value).encode()})
    host.call(host.source.write, {"config/route/10.64.0.0-16": b'{"via": "192.0.2.10"}'})
    host.call(host.source.write, {"config/route/10.9.0.0-16": None})
    host.call(
        host.source.write,
        {
            "config/bgp/peer/core-1": b'{"address": "198.51.100.1", "timers": {"hold": 90}}',
            "config/bgp/peer/core-2": b'{"address": "198.51.100.2"}',
        },
    )
    host.call(host.source.write, {"config/acl/web": b"permit tcp any any eq 8443"})


def lived(host: PageHost) -> None:
    """As if it had been there for a while."""
    began = time.time() - AGO
    moment = began
    pulse = Pulse(lambda: moment)
    for step in range(AGO // 2):
        moment = began + 2 * step
        wave = 18 + 9 * math.sin(step / 17) + 5 * math.sin(step / 5)
        pulse.add(round(wave + 60 * math.exp(-(((step - 158) / 9) ** 2))))
    pulse._wall = time.time
    host.hub.pulse = pulse


def fits(seen: Browser) -> None:
    """On each screen, in both sets of colours."""
    for width in WIDTHS:
        for dark in (False, True):
            seen.look(width=width, height=900, dark=dark)
            assert seen.js(FITS) == [], width
            assert seen.js("return document.scrollingElement.scrollWidth <= innerWidth"), width
            assert not seen.js(CONTRAST), width
            # nothing lies unseen below the end
            end = "return document.scrollingElement.scrollHeight - scrollY"
            end += " - document.querySelector('footer').getBoundingClientRect().bottom"
            assert seen.js(end) <= max(
                1, seen.js("return innerHeight - document.body.offsetHeight")
            )


@pytest.mark.parametrize("broken", [False, True], ids=["rest-status", "rest-failing"])
def test_on_each_screen(run: Run, tmp_path: Path, broken: bool) -> None:
    name = "rest-failing" if broken else "rest-status"

    def look(host: PageHost, seen: Browser) -> None:
        seen.look(width=1280, height=1330, dark=broken, still=True)
        head = "2 watches are failing" if broken else "All is in step"
        wait(lambda: seen.text("#headline") == head)
        wait(lambda: seen.text("#figure-keys") == "92")
        wait(lambda: "highest" in seen.text("#plot-note"))
        writes(host)
        wait(lambda: "config/acl/web" in seen.text("#tail"))
        seen.js("location.hash = '#key=config%2Fbgp%2Fpeer%2Fcore-1'")
        wait(lambda: '"hold": 90' in seen.text("#value pre"))
        wait(lambda: seen.text("#figure-revision") == "6")
        height = seen.js("document.activeElement.blur(); return document.body.offsetHeight")
        seen.look(width=1280, height=height, dark=broken, still=True)
        seen.js("scrollTo(0, 0)")
        wait(lambda: seen.js("return scrollY === 0 && innerHeight") == height)
        made = Path(PICTURES or tmp_path) / f"{name}.webp"
        seen.shot(made)
        assert made.read_bytes()[8:12] == b"WEBP"
        assert made.stat().st_size > 20_000  # it shows something

        fits(seen)
        assert seen.js(UNNAMED) == []
        assert seen.js(REACHED) == (10 if broken else 7)
        seen.look(still=False)
        assert seen.js(MOVING) > 0
        seen.look(still=True)
        assert seen.js(MOVING) == 0

    async def main() -> None:
        sync, source = agent(broken=broken)
        async with contextlib.AsyncExitStack() as stack:
            with mock.patch.object(time, "time", return_value=time.time() - AGO):
                host = await stack.enter_async_context(page_host(sync, source))
            lived(host)
            await host.look(look)

    run(main())


def reporting(store: Source, label: str, said: Exception | None = None) -> DataSync:
    """An agent of a fleet, and what it says of the access list."""
    sync = DataSync(store, label=label, report_to="status/", retries=10**6)

    @sync.watcher("config/", name="config")
    async def config(event: Any) -> None:
        if said is not None and any(change.key == "config/acl/web" for change in event.changes):
            raise said

    return sync


def test_the_agents_of_a_controller(run: Run, tmp_path: Path) -> None:
    """A fleet on one store, as who reads its reports sees it."""
    store = MemorySource("memory://fleet")
    why = "port 443 is in use on <mgmt0>"
    agents = [
        reporting(store, "edge-1"),
        reporting(store, "edge-2", Refused({"config/acl/web": why})),
        reporting(store, "edge-3", RuntimeError("netlink: no buffer space available (ENOBUFS)")),
    ]
    states = [["edge-3", "failing"], ["edge-2", "open keys"], ["edge-1", "well"]]
    rows = """return [...document.querySelectorAll(".panel section:first-child tbody tr")]
    .map((row) => [...row.children].slice(0, 2).map((cell) => cell.textContent))"""

    def look(seen: Browser) -> None:
        seen.look(width=1280, height=900, still=True)
        wait(lambda: seen.js(rows) == states)
        assert "netlink: no buffer space" in seen.text(".panel section:last-child")
        assert why in seen.text(".panel section:last-child"), "what agents say stays text"
        seen.js("document.querySelector('.panel').scrollIntoView()")
        made = Path(PICTURES or tmp_path) / "rest-agents.webp"
        seen.shot(made, of=".panel")
        assert made.stat().st_size > 10_000  # it shows something
        fits(seen)

        # one is chosen
        seen.js("document.querySelector('.panel tbody tr:nth-child(2) button').click()")
        wait(lambda: "netlink" not in seen.text(".panel section:last-child"))

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for sync in agents:
                await stack.enter_async_context(sync)
            ctl = await stack.enter_async_context(DataSync(store))
            async with contextlib.AsyncExitStack() as read:
                for number in range(1, 4):
                    prefix = f"/vnf-agent/edge-{number}/"
                    await ctl.put(f"{prefix}config/acl/web", b"permit tcp any any eq 443")
                    readers = Readers(ctl, f"{prefix}status/")
                    await read.enter_async_context(readers.reading())
                served = await ctl.serve_status("127.0.0.1:0")
                await asyncio.to_thread(seen_by, int(served.url.rpartition(":")[2]), look)

    run(main())
