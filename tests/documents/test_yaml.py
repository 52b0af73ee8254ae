"""YAML: documents that are read part by part, and aliases within them."""

from __future__ import annotations

import pytest

from datasync.documents.entries import BadFile
from datasync.documents.yamlfile import yaml_entries, yaml_records


def test_no_more_of_a_document_is_read_than_asked_for() -> None:
    """The rest is not held: the garbage collector would look at all of it over and over."""
    found = yaml_entries("it", b"a: 1\nb: {c: [2]}\nd: ]\n")
    assert [next(found).raw, next(found).raw] == [b"1", b'{"c":[2]}']
    with pytest.raises(BadFile, match="it, line 3, column 4"):
        next(found)

    listed = yaml_records("it", b"- a: 1\n- [2]\n- ]\n")
    assert [next(listed).raw, next(listed).raw] == [b'{"a":1}', b"[2]"]
    with pytest.raises(BadFile, match="it, line 3, column 3"):
        next(listed)


def test_an_alias_means_what_was_anchored_before_it_in_its_document() -> None:
    text = b"a: &one {b: [&two 2]}\nc: *one\nd: *two\n---\n\n---\n- 3\n"
    found = yaml_entries("it", text)
    read = [next(found) for _ in range(3)]
    assert [(entry.key, entry.raw) for entry in read] == [
        ("a", b'{"b":[2]}'),
        ("c", b'{"b":[2]}'),
        ("d", b"2"),
    ]
    with pytest.raises(BadFile, match="it, line 7, column 1: expected a mapping of keys to values"):
        next(found)
    with pytest.raises(BadFile, match="it, line 3, column 3: the anchor 'one' of an alias"):
        [*yaml_entries("it", b"a: &one 1\n---\n? *one\n: 2\n")]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("&root {a: 1, b: *root}", "line 1, column 1"),
        ("a: &it {b: {c: *it}}", "line 1, column 4"),
        ("a: &it [1, [*it]]", "line 1, column 4"),
        ("a: &it {<<: *it}", "line 1, column 4"),
    ],
)
def test_what_contains_itself_is_refused(text: str, place: str) -> None:
    with pytest.raises(BadFile, match=f"it, {place}: the value contains itself"):
        [*yaml_entries("it", text.encode())]
