"""The order that tests are begun in: nothing that takes long begins last."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

__all__ = ["begun_early"]


def begun_early(items: Iterable[pytest.Item], workers: int) -> list[pytest.Item]:
    """The items, for so many workers, of which each is given an equal part of them, one part behind
    the other; who has no more takes from the ends of the parts of others.

    What is marked `alone` heads the first half of the parts: it mostly waits, for a server or a
    browser, and all tests with one name are in one part, so that few wait for a turn. What is
    marked `long` heads the others.
    """
    together: dict[str, list[pytest.Item]] = {}
    long: list[pytest.Item] = []
    rest: list[pytest.Item] = []
    for item in items:
        if (alone := item.get_closest_marker("alone")) is not None:
            together.setdefault(alone.args[0], []).append(item)
        else:
            (rest if item.get_closest_marker("long") is None else long).append(item)

    heads: list[list[pytest.Item]] = [[] for _ in range(workers)]
    half = workers // 2
    for group in sorted(together.values(), key=len, reverse=True):
        min(heads[: half or 1], key=len).extend(group)
    for item in long:
        min(heads[half:], key=len).append(item)

    left = len(rest) + len(long) + sum(map(len, together.values()))
    ordered: list[pytest.Item] = []
    for number, head in enumerate(heads):
        size = left // (workers - number)  # as xdist divides them
        tail = max(0, size - len(head))
        ordered += head + rest[:tail]
        del rest[:tail]
        left -= size
    return ordered
