"""JSON, however it is laid out."""

from __future__ import annotations

import json
import time

import pytest

from datasync.documents import BadFile, entries


def seconds(keys: int) -> float:
    """Of this process, for a document of so many keys on one line."""
    text = json.dumps({f"config/{key}": {"mtu": key} for key in range(keys)}).encode()
    begun = time.process_time()
    assert sum(1 for _ in entries("json", "f", text)) == keys
    return time.process_time() - begun


def test_the_time_for_a_file_on_one_line_grows_as_the_file_does() -> None:
    few = min(seconds(5_000) for _ in range(3))
    many = min(seconds(40_000) for _ in range(3))
    assert many < 20 * few  # eight times as many; by the square it would be 64


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": "x}', "f, line 1, column 7: unterminated string"),
        ('{"a": "x\ty"}', "f, line 1, column 9: invalid control character"),
    ],
)
def test_what_is_wrong_is_a_whole_sentence(text: str, said: str) -> None:
    with pytest.raises(BadFile) as caught:
        list(entries("json", "f", text.encode()))
    assert str(caught.value) == said
