"""A change on the status page shows what differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.rest.browser import Browser
from tests.restsync.test_page import page, put, wait

pytestmark = [pytest.mark.once, pytest.mark.alone("browser")]

NEWEST = """
const change = document.querySelector("#tail .change");
return [change.querySelector(".op").textContent, change.querySelector(".key a").textContent,
        [...change.querySelectorAll(".what p")].map((e) => e.innerText)];
"""
COUNT = "return document.querySelectorAll('#tail .change').length"
LONG = "x" * 400

# what was there, what is written, the sign of the change, and the lines below it
CHANGES: list[tuple[str, bytes | None, str, list[str]]] = [
    ("a", b'{"mtu":1500,"on":true,"via":"a","tags":["x","y"]}', "+",
     ['{"mtu":1500,"on":true,"via":"a","tags":["x","y"]}']),
    ("a", b'{"mtu":9000,"on":true,"tags":["x","z","y"],"sub":{"n":1}}', "~",
     ["mtu 1500 → 9000", '\N{MINUS SIGN} via "a"', '+ tags[1] "z"', '+ sub {"n": 1}']),
    ("a", b'{"mtu": 9000, "on":true,"tags":["x","z","w"],"sub":{"n":1.0,"a.b":null}}', "~",
     ['tags[2] "y" → "w"', "sub.n 1 → 1.0", '+ sub."a.b" null']),
    ("a", b'{"on":true,  "mtu":9000,"tags":["x","z","w"],"sub":{"n":1.0,"a.b":null}}', "~",
     ["written again, with the same content"]),
    ("a", b'[{"id":9007199254740993}]', "~",
     ['{"on": true, "mtu": 9000, "tags": ["x", "z", "w"], "sub": {"n": 1.0, "a.b": null}} → [{"id": 9007199254740993}]']),
    ("a", b'[{"id":9007199254740992}]', "~", ["[0].id 9007199254740993 → 9007199254740992"]),
    ("a", None, "\N{MINUS SIGN}", ['[{"id":9007199254740992}]']),
    ("b", b"one\ntwo\nthree", "+", ["one\ntwo\nthree"]),
    ("b", b"one\n2\nthree\nfour", "~", ["line 2 two → 2", "+ line 4 four"]),
    ("b", b"\x00\xff", "~", ["one\n2\nthree\nfour → binary, 2 bytes"]),
    ("b", b"", "~", ["binary, 2 bytes → (empty)"]),
    ("c", (LONG + "1").encode(), "+", ["x" * 240 + "…"]),
    ("c", (LONG + "2").encode(), "~", ["…" + "x" * 20 + "1 → …" + "x" * 20 + "2"]),
    ("c", b"y" * 20_000, "~", [LONG[:240] + "… → " + "y" * 240 + "…"]),
    ("c", b"y" * 20_000 + b"z", "~", ["…" + "y" * 20 + " → …" + "y" * 20 + "z"]),
    ("d", "\u202eexe".encode(), "+", ["\\u202eexe"]),
    ("d", b'{"twice":1,"twice":2}', "~", [r'\u202eexe → {"twice":1,"twice":2}']),
    ("d", b'{"twice":1,"twice":3}', "~", ['{"twice":1,"twice":2} → {"twice":1,"twice":3}']),
    ("d", b'{"html":"<b>"}', "~", ['{"twice":1,"twice":3} → {"html":"<b>"}']),
]  # fmt: skip


def shows(seen: Browser, number: int) -> None:
    """So many changes."""
    wait(lambda: seen.js(COUNT) == number)


def test_what_differs_is_shown_member_by_member(tmp_path: Path) -> None:
    with page(tmp_path, 3) as (agent, seen):
        wait(lambda: seen.text("#headline") == "All is in step")
        put(agent.port, "first", b"1")
        wait(lambda: "first" in seen.text("#tail"))
        for number, (key, value, sign, lines) in enumerate(CHANGES, 2):
            if value is None:
                seen.js("return fetch('v1/keys/' + arguments[0], { method: 'DELETE' })", key)
            else:
                put(agent.port, key, value)
            shows(seen, number)
            assert seen.js(NEWEST) == [sign, key, lines]
        assert seen.js("return document.querySelectorAll('#tail b').length") == 0
        put(agent.port, "many", b'{"%s":1}' % b'":1,"'.join(b"m%d" % n for n in range(30)))
        put(agent.port, "many", b'{"%s":2}' % b'":2,"'.join(b"m%d" % n for n in range(30)))
        wait(lambda: seen.js(NEWEST)[2][7:] == ["m7 1 → 2", "and 22 more"])
        # as a person hears it
        assert seen.text("#tail .change .visually-hidden").strip() == "changed"
        assert seen.complaints() == []
