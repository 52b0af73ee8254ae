"""TOML: what the standard library reads becomes the bytes that the other formats give."""

from __future__ import annotations

import time

import pytest

from datasync.documents import BadFile, entries


def read(text: str, flatten: str | None = None) -> dict[str, bytes]:
    return {entry.key: entry.raw for entry in entries("toml", "f", text.encode(), flatten)}


@pytest.mark.parametrize(
    ("written", "raw"),
    [
        ('"edge"', b"edge"),
        ("'''a\nb'''", b"a\nb"),
        ("1500", b"1500"),
        ("1_000", b"1000"),
        ("0x1F", b"31"),
        ("3.10", b"3.10"),
        ("+1_0.50e06", b"10.50e06"),
        ("-0.0", b"-0.0"),
        ("true", b"true"),
        ("2001-01-01", b"2001-01-01"),
        ("07:32:00", b"07:32:00"),
        ("1979-05-27 07:32:00Z", b"1979-05-27T07:32:00Z"),
        ("[1, 2.50, 1979-05-27]", b'[1,2.50,"1979-05-27"]'),
        ("{a = {b = 'ä'}}", '{"a":{"b":"ä"}}'.encode()),
        ("{}", b"{}"),
        ('{"$base64" = "AAE="}', b"\x00\x01"),
    ],
)
def test_a_value_is_stored_as_the_other_formats_have_it(written: str, raw: bytes) -> None:
    assert read(f"k = {written}") == {"k": raw}


def test_tables_are_values_or_with_flatten_a_key_a_leaf() -> None:
    text = "[net]\nmtu = 1500\n[net.dns]\nservers = ['::1']\n"
    assert read(text) == {"net": b'{"mtu":1500,"dns":{"servers":["::1"]}}'}
    assert read(text, "/") == {"net/mtu": b"1500", "net/dns/servers": b'["::1"]'}


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("a = 1\nb = [1,\n", 3, 1, "invalid value"),
        ("a = 1\nb 2\n", 2, 3, "expected '='"),
        ("a = 1\na = 2\n", 2, 6, "cannot overwrite"),
        ("a = 1\n[t]\nx = nan\n", 2, 2, "nan is not a JSON number; put it in quotes"),
        ('a = 1\n"b c" = {"$base64" = "?"}\n', 2, 2, "not base64"),
        ("a = " + "[" * 5000, 1, 1, "nested too deeply"),
        ("a = " + "[" * 101 + "]" * 101, 1, 1, "nested too deeply"),
        ("a = " + "1" * 5000, 1, 1, "too many digits"),
        (".".join("x" * 200) + " = 1", 1, 1, "nested too deeply"),
        ("a = 1\n" + "x." * 100_000 + "x = 1", 2, 1, "nested too deeply"),
        ("a = {" + "'x' . " * 100_000 + "x = 1}", 1, 6, "nested too deeply"),
        ('["' + '"."'.join("x" * 100_000) + '"]', 1, 2, "nested too deeply"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(BadFile) as caught:
        read(text)
    assert says in caught.value.problem
    assert (caught.value.line, caught.value.column) == (line, column)
    if says == "nested too deeply":
        with pytest.raises(BadFile, match=says):
            read(text, "/")


def test_each_key_has_its_place() -> None:
    text = "a = 1\n  'b' = 2\n\n\"c d\" = '''\ne = 3\n'''\n[[f]]\n[ g.h ]\na = 4\n"
    found = {entry.key: (entry.line, entry.column) for entry in entries("toml", "f", text.encode())}
    assert found == {"a": (1, 1), "b": (2, 4), "c d": (4, 2), "f": (7, 3), "g": (8, 3)}


def test_many_keys_and_long_texts_cost_each_what_it_is() -> None:
    """It took minutes: each key was looked for from the beginning of the file on."""
    many = "".join(f"key{number} = 1\n" for number in range(20_000))
    texts = "".join(f"text{number} = '{'a.' * 900} {'x' * 10_000}'\n" for number in range(100))
    before = time.process_time()
    assert len(read(many + texts)) == 20_100
    assert time.process_time() - before < 20
