"""Records: the key is made of what they hold."""

from __future__ import annotations

import pytest

from datasync.documents import BadFile, KeyTemplate, keyed, records

TWO = {
    "json": """[
  {"name": "eth0", "mtu": 1.50},
  {"name": "eth1", "mtu": 9000}
]
""",
    "jsonl": """{"name": "eth0", "mtu": 1.50}

{"name": "eth1", "mtu": 9000}
""",
    "yaml": """name: eth0
mtu: 1.50
---
- {name: eth1, mtu: 9000}
""",
}


def read(format: str, text: str, template: str) -> dict[str, bytes]:
    found = keyed("f", records(format, "f", text.encode()), KeyTemplate(template))
    return {entry.key: entry.raw for entry in found}


@pytest.mark.parametrize("format", TWO)
def test_elements_documents_and_lines_are_records(format: str) -> None:
    assert read(format, TWO[format], "config/interface/{name}") == {
        "config/interface/eth0": b'{"name":"eth0","mtu":1.50}',
        "config/interface/eth1": b'{"name":"eth1","mtu":9000}',
    }


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("json", '{"kind": "Route", "metadata": {"name": "r1", "at": 7}}'),
        ("jsonl", '{"kind": "Route", "metadata": {"name": "r1", "at": 7}}'),
        ("yaml", "kind: Route\nmetadata:\n  name: r1\n  at: 7\n"),
        ("toml", 'kind = "Route"\n[metadata]\nname = "r1"\nat = 7\n'),
    ],
)
def test_a_document_alone_is_one_record(format: str, text: str) -> None:
    raw = b'{"kind":"Route","metadata":{"name":"r1","at":7}}'
    assert read(format, text, "config/{kind}/{metadata.name}") == {"config/Route/r1": raw}
    assert read(format, text, "metadata.at") == {"7": raw}


def test_a_file_of_names_and_values_is_one_record() -> None:
    assert read("env", "NAME=eth0\nMTU=1500\n", "NAME") == {"eth0": b'{"NAME":"eth0","MTU":"1500"}'}


@pytest.mark.parametrize("template", ["", ".", "a..b", "{a", "a}", "{}", "a{}b", "{{a}}"])
def test_what_is_no_template(template: str) -> None:
    with pytest.raises(ValueError, match=r"partner|name a member"):
        KeyTemplate(template)


@pytest.mark.parametrize(
    ("format", "text", "place", "problem"),
    [
        ("json", '[\n {"name": "a"},\n  {"nick": "b"}]', (3, 3), "no member 'name'"),
        ("json", '[\n {"name": "a"},\n  5]', (3, 3), "no member 'name'"),
        ("json", '{"name": null}', (1, 1), "'name', which the key is made of, is not text"),
        ("json", '{"name": ["a"]}', (1, 1), "'name', which the key is made of, is not text"),
        ("json", '[{"name": "a"}] 5', (1, 17), "something after the end"),
        ("json", '[{"name": "a"} 5]', (1, 16), "',' delimiter"),
        ("jsonl", '{"name": "a"}\n  {"nick": 1}\n', (2, 3), "no member 'name'"),
        ("jsonl", '{"name": "a"}\n{"name": \n', (2, 10), "expecting value"),
        ("yaml", "name: a\n---\n- name: b\n- nick: c\n", (4, 3), "no member 'name'"),
        ("yaml", "- name: b\n- {name: c\n", (3, 1), "expected"),
        ("toml", "nick = 5\n", (1, 1), "no member 'name'"),
    ],
)
def test_mistakes_have_their_place(
    format: str, text: str, place: tuple[int, int], problem: str
) -> None:
    with pytest.raises(BadFile, match=problem) as caught:
        read(format, text, "name")
    assert (caught.value.line, caught.value.column) == place
