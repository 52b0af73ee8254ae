"""The keys of the status page: a tree that is searched, linked to, copied from and kept up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.helpers.rest.browser import Browser
from tests.restsync.test_page import page, put, wait

pytestmark = [pytest.mark.once, pytest.mark.alone("browser")]

ROWS = "return [...document.querySelectorAll('#keys .entry')].sort((a, b) => a.dataset.index - b.dataset.index)"
NAMES = ROWS + ".map((e) => e.innerText.replace('\\n', ' '))"
PASTED = "return document.getElementById('tail-find').value"


def names(seen: Browser) -> list[str]:
    """The rows of the tree, as they are seen."""
    found: list[str] = seen.js(NAMES)
    return found


def highlighted(seen: Browser) -> str:
    """The row that has the highlight."""
    return seen.text("#keys .entry[aria-selected=true]").replace("\n", " ")


def copies(seen: Browser, button: int, wanted: str) -> None:
    """A button of the pane says that it has copied, and what it has can be pasted."""
    seen.click(f"#value button:nth-child({button})")
    wait(lambda: seen.text(f"#value button:nth-child({button})") == "Copied")

    def pasted() -> object:
        seen.js("const f = document.getElementById('tail-find'); f.focus(); f.value = ''")
        seen.press("v", holding=Keys.CONTROL)
        return seen.js(PASTED)

    wait(lambda: pasted() == wanted)


def test_a_tree_and_the_pane_beside_it_follows(tmp_path: Path) -> None:
    with page(tmp_path, 60) as (agent, seen):
        wait(lambda: seen.text("#keys-count") == "102")
        # a folder of one key is that key; the others are open as long as they have room
        assert names(seen) == ["config/ 102", "acl/web", "interface/ 60", "logo", "route/ 40"]

        seen.js("document.getElementById('keys').focus()")
        seen.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
        wait(lambda: seen.text("#value pre") == "permit tcp any any eq 443")
        seen.press(Keys.ARROW_DOWN)
        wait(lambda: seen.text("#value .key") == "config/interface/")
        assert seen.text("#value .note") == "60 keys"
        seen.press(Keys.ARROW_RIGHT)
        assert names(seen)[2:5] == ["interface/ 60", "eth0", "eth1"]
        seen.press(Keys.ARROW_RIGHT)
        wait(lambda: '"name": "eth0"' in seen.text("#value pre"))
        row: dict[str, Any] = seen.js("""
            const box = document.getElementById("keys");
            const row = document.getElementById(box.getAttribute("aria-activedescendant"));
            const said = (name) => row.getAttribute(name);
            return { box: box.role, role: row.role, level: said("aria-level"), place: said("aria-posinset"), of: said("aria-setsize") };
        """)
        assert row == {"box": "tree", "role": "treeitem", "level": "3", "place": "1", "of": "60"}
        seen.press(Keys.ARROW_LEFT)
        assert highlighted(seen) == "interface/ 60"
        open_ = "return document.querySelector('#keys [aria-selected=true]').ariaExpanded"
        assert seen.js(open_) == "true"
        seen.press(Keys.ARROW_LEFT)
        assert seen.js(open_) == "false"
        assert len(names(seen)) == 5
        seen.click("#keys .entry:last-child")

        # kept up to date without being read again
        reads = (
            "return performance.getEntriesByType('resource')"
            ".filter((e) => e.name.includes('v1/keys?')).length"
        )
        before = seen.js(reads)
        put(agent.port, "config/acl/ssh", b"deny")
        wait(lambda: "acl/ 2" in names(seen))
        assert seen.text("#keys-count") == "103"
        wait(lambda: seen.text("#figure-keys") == "103")
        assert seen.js(reads) == before
        assert seen.complaints() == []


def test_any_part_of_a_name_is_found(tmp_path: Path) -> None:
    with page(tmp_path, 60) as (agent, seen):
        wait(lambda: seen.text("#keys-count") == "102")
        put(agent.port, "config/Route-Map", b"1")
        wait(lambda: seen.text("#keys-count") == "103")
        seen.press("/")
        wait(lambda: seen.focus() == "keys-find")
        seen.press("route")  # in small letters: whatever the case
        wait(lambda: seen.text("#keys-count") == "41 of 103")
        assert names(seen)[0] == "config/Route-Map"
        seen.press("a", holding=Keys.CONTROL)
        seen.press("Route")
        wait(lambda: seen.text("#keys-count") == "1 of 103")
        assert seen.text("#keys mark") == "Route"
        seen.press("s")
        wait(lambda: "No key has that in its name." in seen.text("#keys"))
        assert seen.text("#keys-count") == "0 of 103"
        seen.press(Keys.ESCAPE)
        wait(lambda: seen.text("#keys-count") == "103")
        assert names(seen)[0] == "config/ 103"


def test_a_link_leads_to_a_key(tmp_path: Path) -> None:
    with page(tmp_path, 60) as (agent, seen):
        wait(lambda: seen.text("#keys-count") == "102")
        seen.open("about:blank")
        seen.open(f"http://127.0.0.1:{agent.port}/#key=config%2Froute%2F10.17.0.0-16")
        wait(lambda: seen.text("#value pre") == '{\n  "via": "10.0.0.17"\n}')
        wait(lambda: highlighted(seen) == "10.17.0.0-16")
        wait(
            lambda: seen.js("""
            const [row, box] = ["#keys [aria-selected=true]", "#keys"].map((one) => document.querySelector(one).getBoundingClientRect());
            return row.top >= box.top && row.bottom <= box.bottom && box.top < innerHeight;
        """)
        )

        # the address goes with the highlight, and the history does not grow
        length = seen.js("return history.length")
        wait(lambda: seen.focus() == "keys")
        seen.press(Keys.ARROW_DOWN)
        wait(lambda: seen.js("return location.hash") == "#key=config%2Froute%2F10.18.0.0-16")
        assert seen.js("return history.length") == length

        # a change leads to its key, a folder has a link as well, and what there is not says so
        put(agent.port, "config/interface/eth7", b"7")
        wait(lambda: "config/interface/eth7" in seen.text("#tail"))
        seen.click("#tail .key a")
        wait(lambda: seen.text("#value pre") == "7" and highlighted(seen) == "eth7")
        seen.js("location.hash = '#key=config%2Froute%2F'")
        wait(lambda: highlighted(seen) == "route/ 40")
        seen.js("location.hash = '#key=nowhere'")
        wait(lambda: seen.text("#value .note") == "This key does not exist any more.")
        seen.js("location.hash = '#key=%'")
        assert seen.complaints()[1:] == []  # the first is the answer 404


def test_keys_and_values_are_copied(tmp_path: Path) -> None:
    with page(tmp_path, 3) as (agent, seen):
        wait(lambda: seen.text("#keys-count") == "45")
        seen.js("location.hash = '#key=config%2Finterface%2Feth1'")
        wait(lambda: '"name": "eth1"' in seen.text("#value pre"))
        labels = "return [...document.querySelectorAll('#value button')].map((e) => e.textContent)"
        assert seen.js(labels) == ["Copy key", "Copy value", "Copy link"]
        value = '{"name":"eth1","mtu":1500,"enabled":true,"addresses":["10.0.0.1/24"]}'
        url = f"http://127.0.0.1:{agent.port}/#key=config%2Finterface%2Feth1"
        for clipboard in (True, False):
            if not clipboard:  # as it is where the page came over plain HTTP from elsewhere
                seen.js("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
            copies(seen, 1, "config/interface/eth1")
            copies(seen, 2, value)
            copies(seen, 3, url)
        seen.js("location.hash = '#key=config%2Flogo'")
        wait(lambda: seen.js(labels)[1] == "Copy as base64")
        assert seen.text("#value .note").startswith("binary, 80 bytes")


def test_no_keys(tmp_path: Path) -> None:
    with page(tmp_path, 0) as (agent, seen):
        wait(lambda: seen.text("#figure-keys") == "42")
        put_nothing = "return fetch('v1/keys?prefix=&confirm=false', { method: 'DELETE' }).then((a) => a.status)"
        assert seen.js(put_nothing) == 200
        wait(lambda: seen.text("#figure-keys") == "0")
        wait(lambda: "No keys." in seen.text("#keys"))
        assert seen.text("#keys-count") == "0"
        put(agent.port, "config/first", b"1")
        wait(lambda: names(seen) == ["config/first"])
