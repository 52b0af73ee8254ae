"""load and dump: what is written comes back, and what does not parse changes nothing."""

from __future__ import annotations

import io
import json
import os
import pathlib
import re
import stat
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datasync.cli.formats import FORMATS, BadFile, File, Keys, writer
from tests.helpers.command_line import Command, Shell, eventually


def entries(data: bytes, format: str) -> dict[str, bytes]:
    file = File("f", io.BytesIO(data), format)
    number = file.check(lambda key: None)
    found = {entry.key: entry.raw for entry in file}
    assert len(found) == number
    return found


def written(items: dict[str, bytes], format: str) -> bytes:
    file = io.BytesIO()
    with writer(file, format) as write:
        for key, raw in items.items():
            write(key, raw)
    return file.getvalue()


WORDS = st.sampled_from(
    "no yes on ~ null true True 52:54:00:12:34:56 22:22 3.10 0o17 0x1F 1e3 1.5e3 08 +1 .5 -.5 1. "
    "1_000 .inf .nan 2001-01-01 = << - ? : [ { # & * ! | > %".split()
)


def trees(text: st.SearchStrategy[str]) -> st.SearchStrategy[object]:
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | text,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(text.map(lambda name: name[:99]), inner, max_size=3)
        ),
        max_leaves=8,
    )


TREES = trees(WORDS | st.text(st.characters(exclude_categories=["Cs"])))
# what stands in quotes in YAML as it does in JSON
PLAIN = WORDS | st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1)
PLAIN_TREES = st.dictionaries(PLAIN.map(lambda name: name[:99]), trees(PLAIN), max_size=4)
VALUES = st.one_of(
    st.binary(),
    WORDS.map(str.encode),
    TREES.map(lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()),
    st.text().map(lambda text: text.encode(errors="ignore")),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    ).map(
        lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
            errors="ignore"
        )
    ),
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@pytest.mark.parametrize("format", FORMATS)
@given(items=st.dictionaries(KEYS, VALUES, max_size=5))
@example(
    items={
        "a": b'{"$base64":"AA=="}',
        "b": b'{"x":NaN}',
        "c": b"1",
        "d": b"null",
        "e": b'"t"',
        "f": b"",
    }
)
@example(
    items={
        "1": b"a",
        "yes": b"no",
        "~": b"~",
        "<<": b"<<",
        "2001-01-01": b"2001-01-01",
        "? x": b"- y",
        "=": b"=",
    }
)
@example(
    items={
        "a\x85b": b'["\xc2\x85\xe2\x80\xa8"]',
        "\ufeff": b"\xef\xbb\xbf",
        "k" * 200: b"[1e400]",
        "x": b"[1e22,1.0]",
    }
)
@example(
    items={
        "a": b'{"<<":{"b":1}}',
        "b": b'{"=":1}',
        "c": b'{"a":1,"a":2}',
        "d": b"[12345678901234567890123]",
    }
)
@settings(max_examples=60, deadline=None)
def test_what_dump_writes_load_reads(format: str, items: dict[str, bytes]) -> None:
    assert entries(written(items, format), format) == items


def test_the_values_of_a_mapping() -> None:
    expected = {
        "text": b"1500",
        "number": b"1500",
        "object": b'{"b":[1,2.5],"a":null}',
        "yes": b"true",
        "bytes": b"\xff\x00",
        "umlaut": "ä".encode(),
    }
    document = """{
      "text": "1500", "number": 1500, "object": {"b": [1, 2.5], "a": null}, "yes": true,
      "bytes": {"$base64": "/wA="}, "umlaut": "\\u00e4"
    }"""
    assert entries(document.encode(), "json") == expected
    assert entries(document.encode(), "yaml") == expected | {"yes": b"true"}
    lines = "\n\n".join(
        json.dumps({"key": key, "value": value}) for key, value in json.loads(document).items()
    )
    assert entries(lines.encode(), "jsonl") == expected
    assert entries(b'\xef\xbb\xbf{"value": "windows", "key": "k"}\r\n', "jsonl") == {
        "k": b"windows"
    }


def test_the_text_of_a_number_is_kept() -> None:
    document = b'{"a": [1.10, 1e400, 123456789012345678901234567890, "\\u00e4 b"], "c": -0.0}'
    assert entries(document, "json") == {
        "a": b'[1.10,1e400,123456789012345678901234567890,"\\u00e4 b"]',
        "c": b"-0.0",
    }


@pytest.mark.parametrize(
    ("format", "text", "line", "column", "says"),
    [
        ("json", '{"a": 1,\n "b" 2}', 2, 6, "expected ':'"),
        ("json", '{"a": 1,\n "b": nan}', 2, 7, "expecting value"),
        ("json", '{"a": 1,\n "b": NaN}', 2, 7, "NaN is not JSON"),
        ("json", '{"a": 1,\n "b": "x}', 2, 7, "unterminated string"),
        ("json", '{"a": 1,\n "b": "x\ny"}', 2, 9, "invalid control character"),
        ("json", '{"a": 1,\n b: 2}', 2, 2, "double quotes"),
        ("json", '{"a": 1,\n}', 2, 1, "double quotes"),
        ("json", '{"a": 1\n', 2, 1, "expected ',' or '}'"),
        ("json", '{"a": 1}\n{"b": 2}', 2, 1, "after the end"),
        ("json", '[{"a": 1}]', 1, 1, "expected a mapping"),
        ("json", "", 1, 1, "expected a mapping"),
        ("json", '{"a": 1,\n "a": 2}', 2, 2, "the key 'a' is given twice, first in line 1"),
        ("json", '{"a": {"x": 1,\n "x": 2}}', 1, 7, "'x' is given twice"),
        ("json", '{"a": {"$base64": "?"}}', 1, 7, "not base64"),
        ("json", '{"a": {"$base64": 12}}', 1, 7, "takes a text"),
        ("json", '{"a": "\\ud800"}', 1, 7, "half a character"),
        ("json", '{"a": ' + "[" * 100_000 + "}", 1, 7, "nested too deeply"),
        ("jsonl", '{"key": "a", "value": 1}\n{"key": "b", "valu": 1}', 2, 14, "not 'valu'"),
        (
            "jsonl",
            '{"key": "a", "value": 1}\n\n{"key": "b"}',
            3,
            13,
            'the member "value" is missing',
        ),
        ("jsonl", '{"key": "a", "value": 1}\n{"key": 7, "value": 1}', 2, 9, "the key is not text"),
        (
            "jsonl",
            '{"key": "a", "value": 1}\n{"key": "a", "value": 1}',
            2,
            9,
            "is given twice, first in line 1",
        ),
        ("jsonl", '{"key": "a", "value": 1, "key": "b"}', 1, 26, "is given twice"),
        ("jsonl", '{"key": "a", "value": 1} {}', 1, 26, "after the end"),
        ("jsonl", '{"key": "a", "value": "1", "key": "b"}', 1, 28, "is given twice"),
        (
            "jsonl",
            '{"value": "ä", "key": "a"}\n{"value": "ä", "key": "a"}',
            2,
            23,
            "is given twice, first in line 1",
        ),
        ("jsonl", '{"key": "a", "value": "\\ud800"}', 1, 23, "half a character"),
        ("jsonl", '["a", 1]', 1, 1, "expected {"),
        ("yaml", "a: 1\nb: [1,\nc: 2\n", 4, 1, "did not find expected"),
        ("yaml", "a: 1\n b: 2\n", 2, 3, "mapping values are not allowed"),
        ("yaml", "a: 1\nb: *x\n", 2, 4, "not defined before it"),
        ("yaml", "a: 1\n---\n- b\n", 3, 1, "expected a mapping"),
        ("yaml", "a: 1\n---\na: 2\n", 3, 1, "the key 'a' is given twice, first in line 1"),
        ("yaml", "a: 1\n---\nb: [\n", 4, 1, ""),
        ("yaml", "a: 1\n\tb: 2\n", 2, 1, ""),
        ("yaml", "a: 1\nb: \x07\n", 2, 4, ""),
        ("yaml", "- a\n- b\n", 1, 1, "expected a mapping"),
        ("yaml", "a: 1\n7: 2\n", 2, 1, "the key is not text; put it in quotes"),
        ("yaml", "a: 1\nb: 2\na: 3\n", 3, 1, "the key 'a' is given twice, first in line 1"),
        ("yaml", "a: {x: 1,\n  x: 2}\n", 2, 3, "'x' is given twice"),
        ("yaml", "a: {7: 1}\n", 1, 5, "name of a member is not text"),
        ("yaml", "a: 1\nb: &x [*x]\n", 2, 4, "contains itself"),
        ("yaml", "a: 1\nb: .nan\n", 2, 4, ".nan is not a JSON number; put it in quotes"),
        ("yaml", "a: 1\nb: [-.INF]\n", 2, 5, "-.INF is not a JSON number"),
        ("yaml", "a: 1\nb: {<<: 1}\n", 2, 9, "<< takes mappings"),
        ("yaml", "a: 1\nb: [!!binary AAA=]\n", 2, 5, "bytes within a value"),
        ("yaml", "a: 1\nb: !!binary '?'\n", 2, 4, "not base64"),
        ("yaml", "a: 1\nb: !!float _\n", 2, 4, "not of the type that its tag names"),
        ("yaml", "a: 1\nb: !!int ''\n", 2, 4, "not of the type that its tag names"),
        ("yaml", "a: 1\nb: [!!bool maybe]\n", 2, 5, "not of the type that its tag names"),
        ("yaml", "a: 1\nb: !!timestamp 2001-01-01\n", 2, 4, "the tag '!!timestamp' means nothing"),
        ("yaml", "a: 1\nb: !!set {x}\n", 2, 4, "the tag '!!set' means nothing here"),
        (
            "yaml",
            "a: !!python/object:os.system {}\n",
            1,
            4,
            "python/object:os.system' means nothing",
        ),
        ("yaml", "a: 1\nb: " + "[" * 100_000, 2, 104, "nested too deeply"),
    ],
)
def test_a_mistake_is_named_with_its_place(
    format: str, text: str, line: int, column: int, says: str
) -> None:
    with pytest.raises(BadFile) as caught:
        entries(text.encode(), format)
    error = caught.value
    assert says in error.problem
    assert error.line == line
    if says:  # else the two libraries of PyYAML differ in where they notice
        assert error.column == column
    assert f"f, line {line}, column " in str(error)
    assert "\n" not in str(error)


def test_a_byte_that_is_no_utf8_is_named_with_its_place() -> None:
    for kind in FORMATS:
        with pytest.raises(BadFile, match=r"line 2, column 3: byte 0xff is not UTF-8"):
            entries(b'{"key":"\xc3\xa4","value":1}\n\xc3\xa4 \xff', kind)


def test_yaml_by_its_core_schema_changes_no_value() -> None:
    document = b"""
mac: 52:54:00:12:34:56
time: 22:22
version: 3.10
answer: no
empty:
tilde: ~
null: !!str null
nothing: Null
sure: True
day: 2001-01-01
zip: 01234
hex: 0x1F
grouped: 1_000
large: 123456789012345678901234567890
quoted: '3'
tagged: !!str 4
inner: {mac: 52:54:00:12:34:56, version: 3.10, large: 123456789012345678901234567890, no: no,
  empty: , sure: TRUE, day: 2001-01-01T00:00:00Z, quoted: "3", base: !!int "5"}
numbers: [-0, 1e400, 1E5, 0x1F, 0o17, +1, .5, -.5e-3, 1., 007, -00.50, 1_000, 0b1, 0X1]
""".replace(b"null: !!str", b"'null': !!str")
    assert entries(document, "yaml") == {
        "mac": b"52:54:00:12:34:56",
        "time": b"22:22",
        "version": b"3.10",
        "answer": b"no",
        "empty": b"",
        "tilde": b"null",
        "null": b"null",
        "nothing": b"null",
        "sure": b"true",
        "day": b"2001-01-01",
        "zip": b"01234",
        "hex": b"0x1F",
        "grouped": b"1_000",
        "large": b"123456789012345678901234567890",
        "quoted": b"3",
        "tagged": b"4",
        "inner": (
            b'{"mac":"52:54:00:12:34:56","version":3.10,"large":123456789012345678901234567890,'
            b'"no":"no","empty":null,"sure":true,"day":"2001-01-01T00:00:00Z","quoted":"3",'
            b'"base":5}'
        ),
        "numbers": (b'[-0,1e400,1E5,31,15,1,0.5,-0.5e-3,1.0,7,-0.50,"1_000","0b1","0X1"]'),
    }


def test_yaml_with_several_documents() -> None:
    assert entries(b"a: 1\n---\n# nothing\n---\nb: &x [2]\nc: *x\n...\n---\n", "yaml") == {
        "a": b"1",
        "b": b"[2]",
        "c": b"[2]",
    }


def test_what_is_merged_gives_way() -> None:
    document = b"""
x: &x {a: 1, b: 1}
y: &y {b: 2, c: 2}
z: {<<: [*x, *y], c: 3, d: 3}
"""
    assert entries(document, "yaml")["z"] == b'{"a":1,"b":1,"c":3,"d":3}'


@given(items=PLAIN_TREES)
@settings(max_examples=200, deadline=None)
def test_json_is_yaml(items: dict[str, object]) -> None:
    document = json.dumps(items, ensure_ascii=False).encode()
    assert entries(document, "yaml") == entries(document, "json")


@given(items=PLAIN_TREES)
@settings(max_examples=100, deadline=None)
def test_flat_is_flat_in_every_format(items: dict[str, object]) -> None:
    def leaves(key: str, value: object) -> Iterator[tuple[str, object]]:
        if not isinstance(value, dict) or not value:
            yield key, value
            return
        for name, inner in value.items():
            yield from leaves(f"{key}\0{name}", inner)

    expected = dict(leaf for key, value in items.items() for leaf in leaves(key, value))
    document = json.dumps(items, ensure_ascii=False)
    lines = "".join(
        json.dumps({"key": key, "value": value}, ensure_ascii=False) + "\n"
        for key, value in items.items()
    )
    for kind, text in (
        ("json", document),
        ("yaml", document),
        ("jsonl", lines),
    ):
        file = File("f", io.BytesIO(text.encode()), kind, Keys("\0"))
        assert file.check(lambda key: None) == len(expected)
        assert {entry.key: entry.raw for entry in file} == {
            key: (
                value
                if isinstance(value, str)
                else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            ).encode()
            for key, value in expected.items()
        }


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("depth", [1, 99, 100, 101, 102, 500, 3000])
def test_what_is_nested_deeply_comes_back(format: str, depth: int) -> None:
    items = {
        "lists": b"[" * depth + b"]" * depth,
        "objects": b'{"a":' * depth + b"1" + b"}" * depth,
        "both": b'[{"a":' * depth + b'"["' + b"}]" * depth,
    }
    assert entries(written(items, format), format) == items


def test_a_nested_file_is_flattened_or_told(cli: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "net:\n  mtu: 1500\n  eth0: {up: yes, addresses: [10.0.0.1]}\n  none: {}\n  blank:\n"
        "top: 1\n"
    )
    flat = (
        '@1 net/blank  ""\n@1 net/eth0/addresses  ["10.0.0.1"]\n@1 net/eth0/up  yes\n'
        "@1 net/mtu  1500\n@1 net/none  {}\n@1 top  1\n"
    )
    result = cli("load", "sqlite:///a.db", "a.yaml", "--flatten", "/")
    assert (result.code, result.err) == (0, "")
    assert cli("ls", "sqlite:///a.db", "-l").out == flat
    assert cli("diff", "sqlite:///a.db", "a.yaml", "--flatten", "/").code == 0

    result = cli("load", "sqlite:///b.db", "a.yaml")
    assert (result.code, result.error) == (
        0,
        (
            "1 key without a slash holds a mapping, loaded as one JSON object; --flatten / makes a key "
            "of each leaf"
        ),
    )
    assert cli("get", "sqlite:///b.db", "net").out == (
        '{"mtu":1500,"eth0":{"up":"yes","addresses":["10.0.0.1"]},"none":{},"blank":null}\n'
    )
    # the names lead to a key that stands there too
    (tmp_path / "b.json").write_text('{"a": {"b": 1},\n "a/b": 2}')
    result = cli("load", "sqlite:///c.db", "b.json", "--flatten", "/")
    assert result.error == (
        "b.json, line 2, column 2: the key 'a/b' is given twice, first in line 1; nothing was "
        "written"
    )
    assert cli("load", "sqlite:///c.db", "b.json", "--flatten", "").code == 2
    (tmp_path / "deep.json").write_text('{"a":' * 103 + "1" + "}" * 103)
    result = cli("load", "sqlite:///c.db", "deep.json", "--flatten", "/")
    assert "deep.json, line 1, column 502: nested too deeply" in result.error
    assert not (tmp_path / "c.db").exists()


def test_merges_cannot_explode() -> None:
    text = "a: &a {x: 1}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}\n"
    with pytest.raises(BadFile, match="aliases"):
        entries(text.encode(), "yaml")


def test_leaves_cannot_explode() -> None:
    text = "a: &a {" + ", ".join(f"x{n}: 1" for n in range(100)) + "}\n"
    for before, name in zip("abc", "bcd", strict=True):
        text += f"{name}: &{name} {{{', '.join(f'y{n}: *{before}' for n in range(100))}}}\n"
    file = File("f", io.BytesIO(text.encode()), "yaml", Keys("/"))
    with pytest.raises(BadFile, match="aliases"):
        file.check(lambda key: None)


def test_a_chain_of_aliases_is_no_way_around_the_depth() -> None:
    text = "k0: &k0 [x]\n" + "".join(f"k{n}: &k{n} [*k{n - 1}]\n" for n in range(1, 200))
    with pytest.raises(BadFile, match="nested too deeply"):
        entries(text.encode(), "yaml")
    assert len(entries(text.encode().split(b"k100")[0], "yaml")) == 100


def test_aliases_cannot_explode() -> None:
    text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    with pytest.raises(BadFile, match="aliases"):
        entries(text.encode(), "yaml")
    assert entries(b"a: &a [x]\nb: *a\nc: {<<: {d: 1}, e: 2}\n", "yaml") == {
        "a": b'["x"]',
        "b": b'["x"]',
        "c": b'{"d":1,"e":2}',
    }


def test_an_empty_file_is_no_keys() -> None:
    for kind, data in (
        ("yaml", b""),
        ("yaml", b"# nothing\n"),
        ("json", b" {} \n"),
        ("jsonl", b"\n"),
        ("jsonl", b""),
    ):
        assert entries(data, kind) == {}
    for kind in FORMATS:
        assert entries(written({}, kind), kind) == {}


def test_load_dump_and_diff(cli: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "config/mtu: 1500\nconfig/name: eth0\nother: {$base64: /wA=}\n"
    )
    result = cli("load", "sqlite:///a.db", "a.yaml")
    assert (result.code, result.err) == (0, "")
    assert result.out == "loaded 3 keys in 1 transaction, revision 1\n"
    for ending in ("jsonl", "json", "yml"):
        assert cli("dump", "sqlite:///a.db", "-o", f"dump.{ending}").code == 0
        result = cli("diff", "sqlite:///a.db", f"dump.{ending}")
        assert (result.code, result.out) == (0, "")
    assert cli("dump", "sqlite:///a.db", "config/").out == (
        '{"key":"config/mtu","value":"1500"}\n{"key":"config/name","value":"eth0"}\n'
    )
    (tmp_path / "b.json").write_text(
        '{"config/mtu": 9000, "config/name": "eth0", "config/new": "x"}'
    )
    result = cli("diff", "sqlite:///a.db", "b.json")
    assert result.code == 1
    assert result.out == "~ config/mtu  1500 -> 9000\n+ config/new  x\n- other  base64:/wA=\n"
    result = cli("diff", "sqlite:///a.db", "b.json", "config/", "--json")
    assert [json.loads(line) for line in result.out.splitlines()] == [
        {"op": "changed", "key": "config/mtu", "value": "9000", "prev": "1500"},
        {"op": "added", "key": "config/new", "value": "x"},
    ]
    # below a prefix, the keys are relative to it
    assert cli("load", "sqlite:///a.db", "b.json", "--label", "vpp1").code == 0
    assert cli("ls", "sqlite:///a.db", "/vnf-agent/").out.split() == [
        "/vnf-agent/vpp1/config/mtu",
        "/vnf-agent/vpp1/config/name",
        "/vnf-agent/vpp1/config/new",
    ]
    assert cli("diff", "sqlite:///a.db", "b.json", "--label", "vpp1").code == 0


def test_batches(cli: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "".join(f'{{"key":"k{i}","value":{i}}}\n' for i in range(2500))
    )
    assert (
        cli("load", "sqlite:///a.db", "a.jsonl").out
        == "loaded 2,500 keys in 3 transactions, revision 3\n"
    )
    assert cli("load", "sqlite:///b.db", "a.jsonl", "--batch", "2500").out == (
        "loaded 2,500 keys in 1 transaction, revision 1\n"
    )
    assert cli("diff", "sqlite:///a.db", "sqlite:///b.db").code == 0


def test_a_file_that_does_not_parse_changes_nothing(cli: Command, tmp_path: pathlib.Path) -> None:
    cli("put", "sqlite:///a.db", "k", "v")
    good = "".join(f'{{"key":"k{i}","value":{i}}}\n' for i in range(3000))
    (tmp_path / "a.jsonl").write_text(good + '{"key":"x","value":}\n')
    result = cli("load", "sqlite:///a.db", "a.jsonl", "--batch", "10")
    assert result.code == 1
    assert result.error == "a.jsonl, line 3001, column 20: expecting value; nothing was written"
    (tmp_path / "a.jsonl").write_text(good + '{"key":"","value":1}\n')
    assert (
        "line 3001, column 8: a key is not empty" in cli("load", "sqlite:///a.db", "a.jsonl").error
    )
    (tmp_path / "b.json").write_text('{"a": 1,\n "/b": 2}')
    result = cli("load", "sqlite:///a.db", "b.json", "--prefix", "p/")
    assert "b.json, line 2, column 2: the key '/b' starts with '/'" in result.error
    assert cli("ls", "sqlite:///a.db").out == "k\n"


def test_a_load_that_fails_in_the_middle_says_how_far_it_came(
    cli: Command, tmp_path: pathlib.Path, plugin: None
) -> None:
    (tmp_path / "a.json").write_text(json.dumps({f"k{number}": number for number in range(5)}))
    result = cli("load", "twice://", "a.json", "--batch", "2")
    assert result.code == 1
    assert (
        result.error
        == "twice:// is gone; try later (4 of 5 keys were written before; load it again)"
    )
    result = cli("load", "twice://", "a.json", "--batch", "5")
    assert result.error == "twice:// is gone; try later"


def test_without_transactions_keys_are_written_one_by_one(
    cli: Command, tmp_path: pathlib.Path, plugin: None
) -> None:
    (tmp_path / "a.json").write_text('{"a": 1, "b": 2}')
    result = cli("load", "plain://", "a.json")
    assert result.out == "loaded 2 keys in 2 writes, revision 2\n"
    assert result.error == "plain:// has no transactions: the keys are written one by one"


def test_a_dump_that_fails_leaves_no_file(cli: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "keep.jsonl").write_text("before")
    assert cli("dump", "sqlite:///missing.db", "-o", "keep.jsonl").code == 1
    assert (tmp_path / "keep.jsonl").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["keep.jsonl"]
    (tmp_path / "folder.json").mkdir()
    cli("put", "sqlite:///a.db", "k", "v")
    for name, problem in (
        ("missing/a.json", "No such file or directory"),
        ("folder.json", "Is a directory"),
    ):
        result = cli("dump", "sqlite:///a.db", "-o", name)
        assert (result.code, result.error) == (
            1,
            f"{name}: {problem}; name a file that can be written",
        )
    assert cli("dump", "sqlite:///a.db", "-o", "").code == 2
    assert not list(tmp_path.rglob("*.part"))


def test_a_new_file_is_for_its_owner_alone(cli: Command, tmp_path: pathlib.Path) -> None:
    cli("put", "sqlite:///a.db", "k", "v")
    before = os.umask(0)
    try:
        assert cli("dump", "sqlite:///a.db", "-o", "a.jsonl").code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.jsonl").stat().st_mode) == 0o600


def test_a_file_that_is_there_keeps_its_mode_owner_and_link(
    cli: Command, tmp_path: pathlib.Path
) -> None:
    cli("put", "sqlite:///a.db", "k", "v")
    target = tmp_path / "folder" / "real.jsonl"
    target.parent.mkdir()
    target.write_text("before")
    target.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(target, 12345, 23456)
    before = target.stat()
    (tmp_path / "second.jsonl").symlink_to("folder/real.jsonl")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "second.jsonl")

    assert cli("dump", "sqlite:///a.db", "-o", "link.jsonl").code == 0

    assert target.read_text() == '{"key":"k","value":"v"}\n'
    after = target.stat()
    assert after.st_ino != before.st_ino  # replaced, not written over
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    assert (tmp_path / "link.jsonl").readlink() == tmp_path / "second.jsonl"
    assert (tmp_path / "second.jsonl").readlink() == pathlib.Path("folder/real.jsonl")
    assert [path.name for path in target.parent.iterdir()] == ["real.jsonl"]


def test_a_link_to_nothing_stays_and_what_it_names_is_made(
    cli: Command, tmp_path: pathlib.Path
) -> None:
    cli("put", "sqlite:///a.db", "k", "v")
    (tmp_path / "link.jsonl").symlink_to("new.jsonl")
    assert cli("dump", "sqlite:///a.db", "-o", "link.jsonl").code == 0
    assert (tmp_path / "link.jsonl").is_symlink()
    assert (tmp_path / "new.jsonl").read_text() == '{"key":"k","value":"v"}\n'
    (tmp_path / "round.jsonl").symlink_to("round.jsonl")
    result = cli("dump", "sqlite:///a.db", "-o", "round.jsonl")
    assert result.code == 1
    assert result.error.startswith("round.jsonl: Too many levels of symbolic links; name")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_not_taken_from_them(shell: Shell) -> None:
    # the folders of pytest are closed to other users
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o777)
        (folder / "theirs").write_text("before")
        result = shell.run(
            python=(
                "-c",
                (
                    "import os; from datasync.cli.output_file import output_file\n"
                    "os.setgroups([]); os.setgid(12345); os.setuid(12345)\n"
                    f"with output_file('{folder}/theirs') as (file, complete): complete()"
                ),
            )
        )
        assert result.code == 1
        assert "theirs belongs to another user or group" in result.err
        assert [path.name for path in folder.iterdir()] == ["theirs"]
        assert (folder / "theirs").read_text() == "before"


def test_a_dump_goes_through_what_is_not_a_regular_file(
    shell: Shell, tmp_path: pathlib.Path
) -> None:
    shell.run("put", "sqlite:///a.db", "k", "v")
    line = '{"key":"k","value":"v"}\n'
    dump = ("dump", "sqlite:///a.db", "--format", "jsonl", "-o")

    null = os.stat(os.devnull)
    (tmp_path / "null").symlink_to(os.devnull)
    for name in (os.devnull, "null"):
        assert shell.run(*dump, name).code == 0
        after = os.stat(os.devnull)
        assert (after.st_ino, after.st_mode, after.st_rdev) == (
            null.st_ino,
            null.st_mode,
            null.st_rdev,
        )

    os.mkfifo(tmp_path / "fifo")
    writing = shell.start(*dump, "fifo")
    with (tmp_path / "fifo").open("rb") as fifo:
        assert fifo.read().decode() == line
    assert writing.wait() == 0
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)

    assert shell.run(*dump, "-").out == line
    assert shell.run(*dump, "/dev/stdout").out == line
    # others may write to the same file, before and behind
    with (tmp_path / "all").open("wb") as file:
        for name in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
            file.write(b"between\n")
            file.flush()
            assert shell.run(*dump, name, stdout=file).code == 0
            file.seek(0, os.SEEK_END)
    assert (tmp_path / "all").read_text() == f"between\n{line}" * 3
    reading, write_end = os.pipe()
    with open(reading) as pipe:
        result = shell.run(*dump, f"/dev/fd/{write_end}", pass_fds=[write_end])
        os.close(write_end)
        assert (result.code, pipe.read()) == (0, line)
    result = shell.run(*dump, "/dev/fd/77")
    assert (result.code, result.error) == (
        1,
        "/dev/fd/77: Bad file descriptor; name a file that can be written",
    )
    assert not list(tmp_path.rglob("*.part"))


def test_a_dump_that_waits_for_the_reader_of_a_fifo_can_be_ended(
    shell: Shell, tmp_path: pathlib.Path
) -> None:
    shell.run("put", "sqlite:///a.db", "k", "v")
    os.mkfifo(tmp_path / "fifo")
    tells = (
        "-c",
        (
            "import sys; from datasync.cli import main\n"
            "def hook(event, args):\n"
            "    if event == 'open' and args[0] == 'fifo': print('opens it', flush=True)\n"
            "sys.addaudithook(hook); sys.exit(main())"
        ),
    )
    dump = shell.start("dump", "sqlite:///a.db", "--format", "json", "-o", "fifo", python=tells)
    dump.wait_for("opens it")
    assert dump.end() == 130


def test_a_device_that_is_full_is_told(shell: Shell) -> None:
    shell.run("put", "sqlite:///a.db", "k", "v")
    result = shell.run("dump", "sqlite:///a.db", "--format", "json", "-o", "/dev/full")
    assert (result.code, result.error) == (
        1,
        "/dev/full: No space left on device; name a file that can be written",
    )


def test_a_resync_of_nothing_is_asked_for(cli: Command, tmp_path: pathlib.Path) -> None:
    cli("put", "sqlite:///a.db", "k", "v")
    for name, text in (("a.jsonl", ""), ("a.json", "{}"), ("a.yaml", "# nothing\n")):
        (tmp_path / name).write_text(text)
        result = cli("load", "sqlite:///a.db", name, "--resync")
        assert (result.code, result.error) == (
            2,
            (
                f"{name} holds no keys, and --resync would delete everything; nothing was written; "
                "add --allow-empty if that is what you want"
            ),
        )
        # then it is for the source to say
        result = cli("load", "sqlite:///a.db", name, "--resync", "--allow-empty")
        assert (result.code, "takes no RESYNC" in result.error) == (2, True)
    assert cli("ls", "sqlite:///a.db").out == "k\n"


@pytest.mark.parametrize(
    "words",
    [
        ("get", "URL", "k"),
        ("ls", "URL"),
        ("watch", "URL"),
        ("dump", "URL"),
        ("dump", "URL", "-o", "out.json"),
        ("diff", "URL", "a.json"),
        ("diff", "a.json", "URL"),
        ("mirror", "URL", "sqlite:///other.db"),
        ("mirror", "URL", "sqlite:///other.db", "--once"),
        ("backup", "URL", "out.db"),
        ("status", "URL"),
        ("capabilities", "URL"),
        ("del", "URL", "k"),
        ("load", "URL", "a.json", "--resync"),
    ],
)
def test_a_misspelt_store_is_not_made(
    cli: Command, tmp_path: pathlib.Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "a.json").write_text('{"k": 1}')
    result = cli(*(word.replace("URL", "sqlite:///typo.db") for word in words))
    assert result.code == {"capabilities": 0, "diff": 2, "status": 2}.get(words[0], 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_long_dump_can_be_ended(shell: Shell, tmp_path: pathlib.Path) -> None:
    with (tmp_path / "big.jsonl").open("w") as file:
        for number in range(50_000):
            file.write(f'{{"key":"{number}","value":{{"a":[{number}]}}}}\n')
    assert shell.run("load", "sqlite:///a.db", "big.jsonl", "--batch", "50000").code == 0
    dump = shell.start("dump", "sqlite:///a.db", "-o", "a.yaml")  # YAML takes its time
    eventually(
        lambda: [path for path in tmp_path.glob(".*.part") if path.stat().st_size], "it writes"
    )
    assert dump.end() == 130
    assert not list(tmp_path.glob("*a.yaml*"))  # it was ended, not waited for


def test_a_load_that_is_ended_says_how_far_it_came(shell: Shell, tmp_path: pathlib.Path) -> None:
    with (tmp_path / "big.jsonl").open("w") as file:
        for number in range(100_000):
            file.write(f'{{"key":"{number}","value":"v"}}\n')
    shell.run("put", "sqlite:///a.db", "k", "v")
    load = shell.start("load", "sqlite:///a.db", "big.jsonl", "--batch", "10")
    watch = shell.start("watch", "sqlite:///a.db", "--count", "2")
    assert watch.wait() == 0
    assert load.end() == 130
    said = re.fullmatch(
        r"datasync: ended early; at least ([\d,]+) of 100,000 keys were written before; load "
        r"it again\n",
        load.err.decode(),
    )
    assert said
    held = shell.run("ls", "sqlite:///a.db").out.count("\n") - 1
    assert held % 10 == 0  # whole batches
    assert 0 <= held - int(said[1].replace(",", "")) <= 10


def test_a_load_for_scripts(cli: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1, "b": 2, "c": 3}')
    assert cli("load", "sqlite:///a.db", "a.json", "--json", "--batch", "2").out == (
        '{"op":"load","keys":3,"transactions":2,"revision":2}\n'
    )


def test_missing_files(cli: Command) -> None:
    result = cli("load", "sqlite:///a.db", "missing.json")
    assert (result.code, result.error) == (
        1,
        "missing.json: No such file or directory; name a file that can be read",
    )
    result = cli("diff", "sqlite:///a.db", "missing.json")
    assert result.code == 2
    assert cli("diff", "sqlite:///missing.db", "sqlite:///also.db").code == 2


def test_pipes(shell: Shell, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.json").write_text('{"k": "v", "b": {"$base64": "/w=="}}')
    assert shell.run("load", "sqlite:///a.db", "a.json").code == 0
    dump = shell.run("dump", "sqlite:///a.db").out
    (tmp_path / "dump").write_text(dump)
    with (tmp_path / "dump").open("rb") as file:
        assert shell.run("load", "sqlite:///b.db", "-", stdin=file).out.startswith("loaded 2 keys")
    with (tmp_path / "dump").open("rb") as file:
        result = shell.run("diff", "sqlite:///b.db", "-", stdin=file)
    assert (result.code, result.out, result.err) == (0, "", "")


@pytest.mark.once
def test_a_load_of_30_000_lines(shell: Shell, tmp_path: pathlib.Path) -> None:
    with (tmp_path / "big.jsonl").open("w") as file:
        for number in range(30_000):
            file.write(f'{{"key":"config/k{number:06}","value":{{"mtu": {number}}}}}\n')
    seen = shell.in_terminal("load", "sqlite:///a.db", "big.jsonl")
    assert "loaded 30,000 keys in 30 transactions, revision 30" in seen
    assert "of 30,000 keys, " in seen  # the bar
    assert "━━━━" in seen
    assert seen.rindex("\x1b[2K") > seen.rindex("of 30,000 keys")  # and it leaves nothing behind
    result = shell.run("ls", "sqlite:///a.db", "-l")
    assert result.out.count("\n") == 30_000
    assert '@30 config/k029999  {"mtu":29999}\n' in result.out


def test_yaml_needs_its_extra(shell: Shell, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yaml").write_text("k: v\n")
    (tmp_path / "a.json").write_text('{"k": "v"}')
    without = (
        "-c",
        "import sys; sys.modules['yaml'] = None; from datasync.cli import main; sys.exit(main())",
    )
    result = shell.run("load", "sqlite:///a.db", "a.yaml", python=without)
    assert result.code == 2
    assert "pip install 'datasync[cli]'" in result.error
    assert shell.run("load", "sqlite:///a.db", "a.json", python=without).code == 0


@pytest.mark.parametrize("format", FORMATS)
def test_a_text_that_is_no_utf8_is_told_with_its_place(format: str) -> None:
    data = {
        "jsonl": b'{"key": "k", "value": "a\xff"}\n',
        "json": b'{"k": "a\xff"}',
        "yaml": b"k: a\xff\n",
    }[format]
    with pytest.raises(BadFile, match=r"line 1, column \d+: byte 0xff is not UTF-8"):
        entries(data, format)


def test_records_are_loaded_under_the_keys_that_they_hold(
    cli: Command, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "in.yaml").write_text("name: eth0\nmtu: 1500\n---\nname: eth1\n")
    template = "config/interface/{name}"
    assert cli("load", "sqlite:///a.db", "in.yaml", "--key-from", template).code == 0
    assert cli("ls", "sqlite:///a.db", "-l").out == (
        '@1 config/interface/eth0  {"name":"eth0","mtu":1500}\n'
        '@1 config/interface/eth1  {"name":"eth1"}\n'
    )
    assert cli("diff", "sqlite:///a.db", "in.yaml", "--key-from", template).code == 0

    (tmp_path / "in.jsonl").write_text('{"name":"eth0"}\n{"name":"eth0"}\n')
    result = cli("load", "sqlite:///a.db", "in.jsonl", "--key-from", "name")
    assert result.code == 1
    assert "line 2, column 1: the key 'eth0' is given twice, first in line 1" in result.error

    (tmp_path / "agents").mkdir()
    for name in ("one", "two"):
        (tmp_path / "agents" / f"{name}.toml").write_text(f'label = "{name}"\n')
    assert cli("load", "sqlite:///b.db", "agents", "--key-from", "agents/{label}").code == 0
    assert cli("ls", "sqlite:///b.db").out == "agents/one\nagents/two\n"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--key-from", ""], "name a member"),
        (["--key-from", "{a"], "a brace has no partner"),
        (["--key-from", "a", "--flatten", "/"], "not allowed with"),
    ],
)
def test_key_from_says_what_it_takes(cli: Command, words: list[str], problem: str) -> None:
    result = cli("load", "sqlite:///a.db", "in.jsonl", *words)
    assert result.code == 2
    assert problem in result.error


def test_what_our_own_commands_print_is_loaded(cli: Command, tmp_path: pathlib.Path) -> None:
    (tmp_path / "logo").write_bytes(b"\x89PNG")
    cli("put", "sqlite:///a.db", "config/mtu", "1500")
    cli("put", "sqlite:///a.db", "config/logo", "--file", "logo")
    listed = cli("ls", "sqlite:///a.db", "-l", "--json").out
    assert '"value_base64"' in listed
    (tmp_path / "listed.jsonl").write_text(listed)
    assert cli("load", "sqlite:///b.db", "listed.jsonl").code == 0
    assert cli("diff", "sqlite:///a.db", "sqlite:///b.db").code == 0
