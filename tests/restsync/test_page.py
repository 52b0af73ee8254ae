"""The status page, in a real browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from tests.helpers.rest.browser import Browser, browser
from tests.helpers.servers import Process, free_ports
from tests.helpers.serving.serve_process import ServeProcess

pytestmark = [pytest.mark.once, pytest.mark.alone("browser")]

MANY = 100_000
CONTRAST = """
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
  .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgb(getComputedStyle(at).backgroundColor);
    if (colour.length < 4 || colour[3] === 1) return colour;
  }
};
const poor = [];
for (const element of document.querySelectorAll("body *")) {
  if (!element.offsetParent || ![...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
  const [front, back] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
  const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
  if (ratio < 4.5) poor.push([element.className || element.tagName, element.textContent.slice(0, 30), ratio]);
}
return poor;
"""


def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Until it is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def put(port: int, key: str, value: bytes, token: str = "") -> int:
    """Write a key; the status of the answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/keys/{key}?confirm=false", value, method="PUT"
    )
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        status: int = answer.status
    return status


@contextlib.contextmanager
def page(directory: Path, keys: int, token: str = "") -> Iterator[tuple[Process, Browser]]:
    """An agent with so many interfaces, and a browser that looks at it."""
    [port] = free_ports(1)
    words = [str(port), str(keys), *([token] if token else [])]
    agent = Process(
        [sys.executable, "-m", "tests.helpers.rest.page_agent", *words], port, directory
    )
    asyncio.run(agent.start())
    try:
        with browser() as seen:
            seen.look()
            seen.open(f"http://127.0.0.1:{port}/")
            yield agent, seen
    finally:
        agent.end()


def test_what_the_person_on_call_sees(tmp_path: Path) -> None:
    with page(tmp_path, 60) as (agent, seen):
        wait(lambda: seen.text("#headline") == "All is in step")
        assert seen.text("#subline") == "1 source, all 4 watches follow"
        assert seen.text("#figure-keys") == "102"
        names = (
            "return [...document.querySelectorAll('#watch-list .name')].map((e) => e.textContent)"
        )
        assert seen.js(names) == ["interfaces", "routes", "access-lists", "breaker"]
        assert "60 keys" in seen.text("#watch-list li:first-child .last")
        assert "following" in seen.text("#sources li")
        assert not seen.js(CONTRAST)

        # something fails
        put(agent.port, "config/break", b"1")
        put(agent.port, "config/route/10.1.0.0-16", b"{}")
        put(agent.port, "config/acl/web", b"deny")
        wait(lambda: seen.text("#headline") == "2 watches are failing")
        assert "ENOBUFS" in seen.text("#watch-list li:nth-child(2) .why")
        assert "management plane" in seen.text("#watch-list li:nth-child(3) .why")
        assert "2 watches are failing" in seen.driver.title
        wait(lambda: "config/acl/web" in seen.text("#tail"))
        assert "permit tcp any any eq 443 → deny" in seen.text("#tail")
        ground = "return getComputedStyle(document.body).backgroundColor"
        grounds = set()
        for dark in (False, True):
            seen.look(dark=dark)
            grounds.add(seen.js(ground))
            assert not seen.js(CONTRAST)
        assert grounds == {"rgb(246, 246, 243)", "rgb(16, 18, 20)"}
        seen.look(width=360, height=740)
        assert seen.js("return document.scrollingElement.scrollWidth <= innerWidth")
        assert not seen.js(CONTRAST)

        # the whole of it came from the agent, and nothing was complained of
        origins = (
            "return performance.getEntriesByType('resource').map((e) => new URL(e.name).origin)"
        )
        assert set(seen.js(origins)) == {f"http://127.0.0.1:{agent.port}"}
        assert seen.complaints() == []

        # the agent goes away, and comes back
        asyncio.run(agent.kill())
        wait(lambda: seen.text("#headline") == "The agent does not answer")
        assert seen.text("#fresh") == "no answer"
        asyncio.run(agent.start())
        wait(lambda: seen.text("#headline") == "All is in step")


def test_by_keyboard(tmp_path: Path) -> None:
    with page(tmp_path, 60) as (agent, seen):
        wait(lambda: seen.text("#keys-count") == "102")
        seen.press("/")
        wait(lambda: seen.focus() == "keys-find")
        seen.press("config/route/10.1")
        wait(lambda: seen.text("#keys-count") == "11 of 102")
        seen.press(Keys.ENTER)
        wait(lambda: seen.focus() == "keys")
        wait(lambda: seen.text("#value .key") == "config/route/10.1.0.0-16")
        seen.press(Keys.ARROW_DOWN)  # the pane follows
        wait(lambda: "config/route/10.10.0.0-16" in seen.text("#value"))
        assert '"via": "10.0.0.10"' in seen.text("#value pre")
        assert (
            seen.js("return document.getElementById('keys').getAttribute('aria-activedescendant')")
            == "key-1"
        )
        put(agent.port, "config/route/10.10.0.0-16", b'{"via":"192.0.2.1"}')
        wait(lambda: "192.0.2.1" in seen.text("#value pre"))
        seen.press("t")
        wait(lambda: seen.focus() == "tail-find")
        seen.press("config/interface/", Keys.ESCAPE)
        wait(lambda: "config/interface/" in seen.text("#tail .note"))
        put(agent.port, "config/route/10.11.0.0-16", b"{}")
        wait(
            lambda: (
                put(agent.port, "config/interface/eth1", b"%d" % time.monotonic_ns())
                and "eth1" in seen.text("#tail")
            )
        )
        assert "config/route" not in seen.text("#tail")
        seen.press("p")
        assert seen.text("#tail-pause") == "Resume"
        held = seen.text("#tail")
        before = seen.text("#figure-revision")
        put(agent.port, "config/interface/eth2", b"2")
        wait(lambda: seen.text("#figure-revision") != before)
        assert seen.text("#tail") == held
        seen.press("p")
        wait(lambda: "config/interface/eth2" in seen.text("#tail"))
        seen.press("w")
        wait(lambda: seen.focus() == "watches")
        seen.press("?")
        wait(lambda: seen.js("return document.getElementById('help').open"))
        seen.press(Keys.ESCAPE)
        wait(lambda: not seen.js("return document.getElementById('help').open"))
        assert seen.complaints() == []


def test_a_hundred_thousand_keys(tmp_path: Path) -> None:
    """Only what is seen is drawn; the end is reached, and nothing takes long."""
    with page(tmp_path, MANY) as (_, seen):
        wait(lambda: seen.text("#figure-keys") == f"{MANY + 42:,}")
        wait(lambda: seen.text("#keys-count") == f"{MANY + 42:,}")
        seen.js("document.getElementById('keys').focus()")
        seen.press(Keys.HOME, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
        assert seen.text("#keys .entry[aria-selected=true]") == f"interface/\n{MANY:,}"
        seen.press(Keys.ARROW_RIGHT)
        wait(lambda: "eth99999" not in seen.text("#keys") and "eth0" in seen.text("#keys"))
        seen.press(Keys.END)
        wait(lambda: seen.text("#keys .entry[aria-selected=true]") == "route/\n40")
        wait(lambda: "eth99999" in seen.text("#keys"))
        assert seen.js("return document.querySelectorAll('#keys .entry').length") < 60
        slow = seen.js(
            "const box = document.getElementById('keys'); const took = [];"
            "for (let at = 0; at < 100; at++) {"
            "  const began = performance.now(); box.scrollTop = at * 28000;"
            "  box.dispatchEvent(new Event('scroll')); took.push(performance.now() - began); }"
            "return took.sort((a, b) => a - b)[50]"
        )
        assert slow < 50  # the median, for the machine may be busy

        # a search looks at all of them, and tells how many there are
        seen.press("/")
        wait(lambda: seen.focus() == "keys-find")
        seen.press("th9999")
        wait(lambda: seen.text("#keys-count") == f"11 of {MANY + 42:,}")
        assert seen.text("#keys mark") == "th9999"
        assert seen.complaints() == []


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    with page(tmp_path, 3, "s3cret") as (agent, seen):
        wait(lambda: seen.js("return document.getElementById('sign-in').open"))
        seen.press("wrong", Keys.ENTER)
        wait(lambda: seen.text("#sign-in-note") == "The agent did not accept that token.")
        wait(lambda: seen.js("return document.getElementById('sign-in').open"))
        seen.press("s3cret", Keys.ENTER)
        wait(lambda: seen.text("#headline") == "All is in step")
        wait(lambda: seen.text("#keys-count") == "45")
        put(agent.port, "config/interface/eth1", b"1", "s3cret")
        wait(lambda: "config/interface/eth1" in seen.text("#tail"))
        asked = json.dumps(
            seen.js("return performance.getEntriesByType('resource').map((e) => e.name)")
        )
        assert "s3cret" not in asked + seen.js("return location.href + document.cookie")


def test_an_answer_that_comes_after_the_token_asks_for_none(tmp_path: Path) -> None:
    """It was about the token before: the request is made again with the one that there is now."""
    with page(tmp_path, 3, "s3cret") as (_, seen):
        wait(lambda: seen.js("return document.getElementById('sign-in').open"))
        seen.js(
            "const fetched = fetch;"
            "window.fetch = async (...words) => {"
            "  const answer = await fetched(...words); window.fetch = fetched;"
            "  window.held = answer.status; await new Promise((go) => { window.go = go; }); return "
            "answer; };"
            "import('./page/api.js').then((api) => api.json('v1/status')).then(() => { "
            "window.answered = true; })"
        )
        wait(lambda: seen.js("return window.held === 401"))
        seen.press("s3cret", Keys.ENTER)
        wait(lambda: seen.text("#headline") == "All is in step")
        seen.js("window.go()")
        wait(lambda: seen.js("return window.answered || document.getElementById('sign-in').open"))
        assert not seen.js("return document.getElementById('sign-in').open")


def test_a_served_source_shows_who_follows_it(tmp_path: Path) -> None:
    server = ServeProcess("memory://", tmp_path, "http")
    asyncio.run(server.start())
    try:
        with browser() as seen:
            seen.look()
            seen.open(f"http://127.0.0.1:{server.port}/")
            wait(lambda: seen.text("#headline") == "All is in step")
            assert seen.text("#remote-list") == "Nobody follows at the moment."
            assert "memory://" in seen.text("#sources li")
            assert not seen.js(CONTRAST)
            put(server.port, "a/1", b"1")
            wait(lambda: "a/1" in seen.text("#tail"))
            assert seen.complaints() == []
    finally:
        server.end()
