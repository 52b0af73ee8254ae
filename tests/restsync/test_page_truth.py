"""The status page says what is true, whatever the keys and values hold,
and where it cannot know, it says so.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from selenium.webdriver.common.keys import Keys

from datasync import Accepted, Failed, Outcomes, Pending, blocking
from tests.helpers.rest.browser import Browser, browser
from tests.restsync.test_page import page, put, wait

pytestmark = [pytest.mark.once, pytest.mark.alone("browser")]


FIND = """
const field = document.getElementById("keys-find");
field.value = arguments[0];
field.dispatchEvent(new Event("input"));
"""


def opened(seen: Browser, key: str) -> Callable[[], bool]:
    """Ask for a key by its whole name; what it returns tells whether the value is there."""
    seen.js("document.getElementById('keys-find').value = ''")
    seen.press("/")
    wait(lambda: seen.focus() == "keys-find")
    seen.press(key)
    seen.press(Keys.ENTER)
    wait(
        lambda: (
            seen.js(
                "return document.querySelector('#keys .entry[aria-selected=true]')?.dataset.key"
            )
            == key
        )
    )
    wait(lambda: seen.focus() == "keys")

    return lambda: seen.text("#value .key") == key and bool(seen.text("#value .note"))


def followed(port: int, seen: Browser, key: str) -> bool:
    """Whether a change of that key is shown; makes one."""
    put(port, key, b"%d" % time.monotonic_ns())
    return key in seen.text("#tail")


def test_open_keys_are_shown_until_they_are_reported() -> None:
    with blocking.DataSync("memory://") as sync, browser() as seen:

        @sync.watcher("config/", name="net")
        def handle(event: Any) -> None:
            keys = [change.key for change in event.changes]
            said = Pending("<b>no eth0</b>"), Failed("busy")
            if keys:
                raise Outcomes(dict(zip(keys, said, strict=True)))

        sync.ready(60)
        sync.txn().put("config/a", b"1").put("config/b", b"1").commit()
        seen.look()
        seen.open(sync.serve_status("127.0.0.1:0").url)
        rows = "return [...document.querySelectorAll('.refused > *')].map((e) => e.textContent)"
        wait(
            lambda: (
                seen.js(rows) == ["config/a", "pending: <b>no eth0</b>", "config/b", "failed: busy"]
            )
        )
        assert seen.text("#headline") == "All is in step"
        sync.watches["net"].report({"config/a": Accepted(), "config/b": Accepted()})
        wait(lambda: seen.js(rows) == [])


def test_nothing_that_is_stored_becomes_markup_or_breaks_the_page(tmp_path: Path) -> None:
    with page(tmp_path, 3) as (agent, seen):
        wait(lambda: seen.text("#headline") == "All is in step")
        put(agent.port, "config/break", b"1")
        script = "config/acl/<script>hit=1</script><img src=x onerror=hit=1>"
        put(agent.port, quote(script), b"<script>hit=1</script>")
        put(agent.port, "config/acl/" + "long/" * 400, b"x" * 5000)
        wait(lambda: "long/long" in seen.text("#watch-list .why"))
        wait(lambda: script in seen.text("#tail"))
        wait(opened(seen, script))
        assert seen.text("#value pre") == "<script>hit=1</script>"
        assert script in seen.text("#watch-list .why")
        assert seen.js("return typeof hit") == "undefined"
        assert seen.js("return document.querySelectorAll('main script, main img').length") == 0
        for width in (1440, 800, 360):
            seen.look(width=width, height=900)
            assert seen.js("return document.scrollingElement.scrollWidth <= innerWidth")
            # a reason stays readable beside a long key
            narrowest = (
                "return Math.min(...[...document.querySelectorAll('.refused dd')].map((e) => "
                "e.clientWidth))"
            )
            assert seen.js(narrowest) > 150
        assert seen.complaints() == []


def test_values_are_shown_as_they_are(tmp_path: Path) -> None:
    values = {
        "v/exact": b'{"id":9007199254740993, "f":1.0,"a":1,"a":[ ],"o":{"t":"x: {,}"}}',
        "v/large": b"x" * 262_143 + "é".encode() * 10,
        "v/binary": bytes(range(256)) * 20,
        "v/../config/logo": b"not the logo",
        "v/empty": b"",
    }
    with page(tmp_path, 3) as (agent, seen):
        wait(lambda: seen.text("#headline") == "All is in step")
        for key, value in values.items():
            put(agent.port, quote(key, safe=""), value)
        wait(opened(seen, "v/exact"))
        assert seen.text("#value pre").split("\n") == [
            "{", '  "id": 9007199254740993,', '  "f": 1.0,', '  "a": 1,', '  "a": [ ],',
            '  "o": {', '    "t": "x: {,}"', "  }", "}",
        ]  # fmt: skip
        wait(opened(seen, "v/large"))
        assert seen.text("#value .note").startswith(
            "text, 262,163 bytes, of which the first 262,144 are shown"
        )
        wait(opened(seen, "v/binary"))
        assert seen.text("#value .note").startswith(
            "binary, 5,120 bytes, of which the first 4,096 are shown"
        )
        wait(opened(seen, "v/../config/logo"))
        assert seen.text("#value pre") == "not the logo"
        wait(opened(seen, "v/empty"))
        assert seen.text("#value .note").startswith("text, 0 bytes, revision")


def test_what_is_selected_stays_selected_though_the_keys_were_read_anew_meanwhile(
    tmp_path: Path,
) -> None:
    with page(tmp_path, 3) as (agent, seen):
        wait(lambda: seen.text("#headline") == "All is in step")
        put(agent.port, "config/one", b"1")
        seen.js("""
            const field = document.getElementById("keys-find");
            field.value = "config/one";
            field.dispatchEvent(new Event("input"));
            document.getElementById("keys-refresh").click();
            field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
            setTimeout(() => { window.typed = true; }, 500);  // longer than the page waits for more to be typed
        """)
        selected = "return document.querySelector('#keys .entry[aria-selected=true]')?.dataset.key"
        wait(lambda: seen.js(selected) == "config/one")
        wait(lambda: seen.js("return window.typed"))
        assert seen.js(selected) == "config/one"


def test_what_is_not_as_of_now_says_so(tmp_path: Path) -> None:
    with page(tmp_path, 2500) as (agent, seen):
        wait(lambda: seen.text("#keys-count") == "2,542")
        wait(opened(seen, "config/route/10.7.0.0-16"))
        # the value and the keys keep up, whatever the live changes are filtered by
        seen.press("t", "nothing/")
        put(agent.port, "config/route/10.7.0.0-16", b"new")
        wait(lambda: seen.text("#value pre") == "new")
        put(agent.port, "config/route/10.7.0.0-16x", b"beside")
        wait(lambda: seen.text("#keys-count") == "2 of 2,543")
        put(agent.port, "config/interface/a", b"1")
        wait(lambda: seen.text("#keys-count") == "2 of 2,544")

        # an agent that hangs, and goes on
        asyncio.run(agent.pause())
        wait(lambda: seen.text("#headline") == "The agent does not answer")
        assert "what is below is what it said at" in seen.text("#subline")
        assert (
            seen.js("return getComputedStyle(document.getElementById('watches')).filter")
            == "grayscale(1)"
        )
        agent.resume()
        wait(lambda: seen.text("#headline") == "All is in step")
        assert (
            seen.js("return getComputedStyle(document.getElementById('watches')).filter") == "none"
        )

        # a RESYNC, and a connection that broke off, have their place among the live changes
        seen.js(
            "const f = document.getElementById('tail-find'); f.value = ''; f.dispatchEvent(new "
            "Event('input'))"
        )
        wait(lambda: followed(agent.port, seen, "config/now"))
        state = json.dumps({"items": [{"key": "config/only", "value": "1"}]}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{agent.port}/v1/keys", state, method="PUT"
        )
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request, timeout=60).close()
        wait(lambda: "the whole state was read again (a RESYNC)" in seen.text("#tail"))
        seen.js(FIND, "")
        wait(lambda: seen.text("#keys-count") == "1")
        wait(lambda: followed(agent.port, seen, "config/later"))
        asyncio.run(agent.kill())
        wait(lambda: "the connection broke off" in seen.text("#tail"))
        wait(lambda: ", as of " in seen.text("#keys-count"))
