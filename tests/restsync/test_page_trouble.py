"""The status page says what is wrong: all of it, by name, above the rest and in its place."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from datasync import DataSync, Refused
from datasync.errors import Disconnected
from datasync.restsync import RestSource
from datasync.restsync.agent import serve_app
from datasync.testing import FaultySource
from tests.helpers.files import replace
from tests.helpers.rest.browser import Browser
from tests.helpers.rest.page_host import PageHost, page_host, seen_by
from tests.helpers.rest.served import access_of
from tests.helpers.servers import free_ports
from tests.restsync.test_page import CONTRAST, wait

pytestmark = [pytest.mark.once, pytest.mark.alone("browser")]

Run = Callable[[Coroutine[Any, Any, None]], None]

WIDTHS = (360, 768, 1280, 2560)
WHY = "store: cannot reach any of " + ",".join(f"10.20.30.{n}:2379" for n in range(40))
FITS = """
const wide = [];
for (const element of document.querySelectorAll("body *")) {
  const box = element.getBoundingClientRect();
  if (box.width && box.right > innerWidth + 1 && !element.closest(".keys, .value, .tail, .visually-hidden"))
    wide.push([element.id || element.className, Math.round(box.right)]);
}
return wide;
"""
CUT = """
return [...document.querySelectorAll(arguments[0])].filter((element) => {
  const box = element.getBoundingClientRect();
  for (let at = element; at; at = at.parentElement) {
    const around = at.getBoundingClientRect();
    if (getComputedStyle(at).overflowY !== "visible" && at !== document.documentElement &&
        (around.bottom < box.bottom - 1 || at.scrollHeight > at.clientHeight + 1)) return true;
  }
  return false;
}).length;
"""
SHOWN = "return document.getElementById(arguments[0]).offsetParent !== null"
FIGURES = "return [...document.querySelectorAll('.figures dd')].map((e) => e.textContent)"


def test_before_there_is_a_state_there_are_no_zeros(run: Run) -> None:
    async def main() -> None:
        # mounted in an application that has not started it yet
        access = access_of(f"http://127.0.0.1:{free_ports(1)[0]}")
        source = RestSource()
        listener = await serve_app(source.app, access)
        sync = DataSync(source)
        sync.watcher("config/", name="config")(accepts)

        def unstarted(seen: Browser) -> None:
            wait(lambda: seen.text("#headline") == "Not started")
            assert seen.js(FIGURES) == ["\N{EN DASH}"] * 4
            assert seen.text("#plot-note") == "nothing to count yet"
            assert seen.js("return document.querySelectorAll('#plot .rate').length") == 0
            assert seen.text("#keys-count") == ""

            loop.call_soon_threadsafe(going.set)
            wait(lambda: seen.text("#headline") == "Not ready")
            assert seen.js(FIGURES)[:3] == ["\N{EN DASH}"] * 3
            assert seen.text("#watch-list .state") == "waiting"
            assert "0" not in seen.text("#watch-list .backlog")
            assert "revision" not in seen.text("#sources li")

            loop.call_soon_threadsafe(filling.set)
            wait(lambda: seen.text("#headline") == "All is in step")
            assert seen.js(FIGURES)[0] == "1"
            wait(lambda: seen.text("#keys-count") == "1")

        loop, going, filling = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        looking = asyncio.create_task(asyncio.to_thread(seen_by, access.port, unstarted))
        try:
            await going.wait()
            async with sync:
                await filling.wait()
                await source.replace([("config/a", b"1")])
                await looking
        finally:
            await asyncio.wait([looking])
            await listener.aclose()

    run(main())


def test_the_error_of_a_lost_source_is_whole_and_in_its_place(run: Run) -> None:
    def look(host: PageHost, seen: Browser) -> None:
        wait(lambda: seen.text("#headline") == "All is in step")
        host.call(host.source.down, Disconnected(WHY))
        wait(lambda: seen.text("#headline") == "The source is lost")
        assert "the last state stands meanwhile" in seen.text("#subline")
        seen.press("r")
        wait(lambda: WHY in seen.text("#keys-fault"))
        assert seen.text("#keys-count").startswith("1, as of ")
        for width in WIDTHS:
            seen.look(width=width, height=900)
            assert seen.js(FITS) == [], width
            assert seen.text("#sources .why") == WHY
            assert seen.js(CUT, "#sources .why") == 0, width
            # trouble first, then all there is
            tops = seen.js(
                "return ['headline', 'trouble', 'sources', 'watches', 'plot'].map("
                "(id) => document.getElementById(id).getBoundingClientRect().top)"
            )
            assert tops == sorted(tops)
            assert not seen.js(CONTRAST)
        assert seen.text("#troubles a") == "store"
        host.call(host.source.heal)
        wait(lambda: seen.text("#headline") == "All is in step")
        assert not seen.js(SHOWN, "trouble")
        wait(lambda: seen.text("#keys-fault") == "")

    async def main() -> None:
        source = FaultySource({"config/a": b"1"}, name="store")
        sync = DataSync(source)
        sync.watcher("config/", name="config")(accepts)
        async with page_host(sync, source) as host:
            await host.look(look)

    run(main())


def test_each_watch_in_trouble_is_named_and_the_headline_leads_to_its_row(run: Run) -> None:
    def look(host: PageHost, seen: Browser) -> None:
        wait(lambda: seen.text("#headline") == "4 watches are failing")
        wait(lambda: "overdue" in seen.text("#troubles"))
        named = "return [...document.querySelectorAll('#troubles a')].map((e) => e.textContent)"
        assert sorted(seen.js(named)) == ["late", "no/es", "x & y", "überall"]
        assert "ENOBUFS" in seen.text("#troubles")
        assert "config/a: out of range" in seen.text("#troubles")

        # one judgement: the row of each has the colour that it has above, and the worst has the headline's
        tones = seen.js("""
            const at = (row) => [row.querySelector(".badge").textContent, getComputedStyle(row.querySelector(".badge")).color];
            return Object.fromEntries([...document.querySelectorAll("#troubles li")].map((trouble) => {
              const name = trouble.querySelector("a").textContent;
              const row = [...document.querySelectorAll("[data-at]")].find((one) => one.dataset.at === `watch ${name}`);
              return [name, [at(trouble), at(row)]];
            }));
        """)
        assert all(above == row for above, row in tones.values())
        assert tones["late"][0][0] == "overdue"
        assert tones["no/es"][0][0] == "refused a key"
        sign = seen.js("return getComputedStyle(document.querySelector('#verdict .sign')).color")
        assert {tones[name][0][1] for name in ("no/es", "x & y", "überall")} == {sign}

        # the headline leads to the first of them, and each name to its own
        def leads(selector: str, name: str) -> None:
            seen.js("document.activeElement.blur(); scrollTo({ top: 0, behavior: 'instant' })")
            seen.js("document.querySelector(arguments[0]).focus()", selector)
            seen.press("\ue007")
            wait(lambda: seen.js("return document.activeElement.dataset.at") == f"watch {name}")
            wait(lambda: seen.js(IN_SIGHT))
            assert seen.js(MARKED) == [f"watch {name}"]

        first = seen.js(named)[0]
        leads("#headline a", first)
        for index, name in enumerate(seen.js(named)):
            leads(f"#troubles li:nth-child({index + 1}) a", name)
        wait(lambda: seen.text("#figure-keys") == "1")
        # the row is new each time that something of it changes, and marked all the same
        host.call(host.source.write, {"config/a": b"2"})
        wait(lambda: seen.text("#figure-revision") == "2")
        assert seen.js(MARKED) == [f"watch {name}"]
        assert not seen.js(CONTRAST)
        seen.look(dark=True)
        assert not seen.js(CONTRAST)

        # what is said aloud is only that which is new
        aloud = "return [...document.querySelectorAll('[role=status], [aria-live=polite]')].map((e) => e.id)"
        assert seen.js(aloud) == ["aloud", "keys-fault"]

    def follow(host: PageHost, seen: Browser) -> None:
        wait(lambda: seen.js(MARKED) == ["watch x & y"])
        wait(lambda: seen.js(IN_SIGHT))

    async def main() -> None:
        source = FaultySource({"config/a": b"1"}, name="store")
        sync = DataSync(source, ack_timeout=0.3, resync_timeout=0.3)
        for number in range(30):
            sync.watcher(f"other/{number}/", name=f"other {number}")(accepts)
        sync.watcher("config/", name="x & y", retries=1000)(fails)
        sync.watcher("config/", name="überall", retries=1000)(fails)
        sync.watcher("config/", name="no/es")(refuses)
        sync.watcher("config/", name="late")(hangs)
        async with page_host(sync, source) as host:
            await host.look(look)
            await host.look(follow, "#watch=x%20%26%20y")

    run(main())


IN_SIGHT = """
const box = document.querySelector(".marked").getBoundingClientRect();
return box.top >= 0 && box.bottom <= innerHeight;
"""
MARKED = "return [...document.querySelectorAll('.marked')].map((e) => e.dataset.at)"


def test_the_page_is_no_remote_watcher_and_others_are_named_by_their_address(run: Run) -> None:
    def look(host: PageHost, seen: Browser) -> None:
        wait(lambda: seen.text("#headline") == "All is in step")
        host.call(host.source.write, {"config/b": b"2"})
        wait(lambda: "config/b" in seen.text("#tail"))  # so the page's own stream stands
        assert seen.text("#figure-watchers") == "0"
        assert not seen.js(SHOWN, "remote")
        events = f"http://127.0.0.1:{host.port}/v1/events?prefix=config/&from=now"
        with urllib.request.urlopen(events, timeout=60) as stream:
            here = stream.fp.raw._sock.getsockname()
            wait(lambda: seen.text("#figure-watchers") == "1")
            wait(lambda: seen.text("#remote-list .name") == f"{here[0]}:{here[1]}")
            assert seen.text("#remote-list .scopes") == "config/"
        wait(lambda: seen.text("#figure-watchers") == "0")
        wait(lambda: not seen.js(SHOWN, "remote"))

    async def main() -> None:
        source = FaultySource({"config/a": b"1"}, name="store")
        sync = DataSync(source)
        sync.watcher("config/", name="config")(accepts)
        async with page_host(sync, source) as host:
            await host.look(look)

    run(main())


async def accepts(event: Any) -> None:
    pass


async def fails(event: Any) -> None:
    raise RuntimeError("netlink: no buffer space available (ENOBUFS)")


async def refuses(event: Any) -> None:
    raise Refused({"config/a": "out of range"})


async def hangs(event: Any) -> None:
    await asyncio.Event().wait()


def test_what_is_wrong_with_a_part_of_a_source_is_a_fault(run: Run, tmp_path: Path) -> None:
    replace(tmp_path / "net.yaml", "mtu: 1500")

    async def main() -> None:
        async with DataSync(f"file://{tmp_path}/") as sync:
            sync.watcher("net/", name="net")(accepts)
            served = await sync.serve_status("127.0.0.1:0")

            def look(seen: Browser) -> None:
                wait(lambda: seen.text("#headline") == "All is in step")
                replace(tmp_path / "net.yaml", "mtu: 9000\nmtu: [")
                wait(lambda: seen.text("#headline") == "The source has a fault")
                assert "net.yaml, line 3" in seen.text("#trouble")
                assert "the last state stands meanwhile" in seen.text("#subline")
                assert seen.text("#sources .badge").endswith("fault")
                assert not seen.js(CONTRAST)
                replace(tmp_path / "net.yaml", "mtu: 9000")
                wait(lambda: seen.text("#headline") == "All is in step")
                assert not seen.js(SHOWN, "trouble")

            await asyncio.to_thread(seen_by, int(served.url.rpartition(":")[2]), look)

    run(main())
