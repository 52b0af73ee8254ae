"""`.env` files: names and values, and no line that is skipped."""

from __future__ import annotations

import pytest

from datasync.documents import BadFile, entries


def read(text: str) -> dict[str, bytes]:
    return {entry.key: entry.raw for entry in entries("env", "f", text.encode())}


@pytest.mark.parametrize(
    ("line", "raw"),
    [
        ("A=b", b"b"),
        ("  export A = b c  ", b"b c"),
        ("A=", b""),
        ("A=b # a comment", b"b"),
        ("A=b#c", b"b#c"),
        ("A= # a comment", b""),
        ("A=$HOME/${X}", b"$HOME/${X}"),
        ("A='b # $c\\n'", b"b # $c\\n"),
        ('A="b\\n\\"c\\" \\$d \\q" # a comment', b'b\n"c" $d \\q'),
        ('A="two\nlines"', b"two\nlines"),
        ("A=''", b""),
        ("A=b=c", b"b=c"),
        ("A=it's", b"it's"),
        ("A=b\r", b"b"),
    ],
)
def test_a_value_is_what_stands_there(line: str, raw: bytes) -> None:
    assert read(f"\ufeff# first\n\n{line}\nLAST=1") == {"A": raw, "LAST": b"1"}


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("A=1\n  B\n", 2, 3, "expected NAME=value"),
        ("A=1\n=2\n", 2, 1, "expected NAME=value"),
        ("A=1\nB C=2\n", 2, 1, "expected NAME=value"),
        ('A=1\nB="2\n', 2, 3, 'the quote " is not closed'),
        ("A=1\nB='2' 3\n", 2, 3, "something after the closing quote"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(BadFile) as caught:
        read(text)
    assert says in caught.value.problem
    assert (caught.value.line, caught.value.column) == (line, column)
