"""The keys of a dict in order: what is under a prefix is what a look at all of them finds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from datasync import ordered
from datasync.ordered import OrderedKeys

LETTERS = ["a", "b", "/", "0", "\ud7ff", "\ue000", "\U0010ffff"]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_under_a_prefix(seed: int) -> None:
    rng = random.Random(seed)
    order, keys = OrderedKeys(), dict[str, int]()
    lent: list[tuple[Iterator[str], list[str]]] = []

    def text(longest: int) -> str:
        return "".join(rng.choices(LETTERS, k=rng.randint(0, longest)))

    for _ in range(60):
        for key in {text(5) for _ in range(rng.choice([1, 3, 200]))}:
            if key not in keys and order.touched is not None:
                order.touched.append(key)
            keys[key] = 1
        for key in rng.sample(sorted(keys), k=rng.randint(0, len(keys))):
            del keys[key]
            if order.touched is not None:
                order.touched.append(key)
        if rng.random() < 0.1:
            order.forget()
        order.trim()

        for _ in range(rng.randint(0, 4)):
            prefix = text(2)
            found = sorted(key for key in keys if key.startswith(prefix))
            lent.append((order.each(prefix, keys), found))
            assert order.under(prefix, keys) == found
            assert order.count(prefix, keys) == len(found)
    for each, found in lent:  # what has come and gone since does not show
        assert list(each) == found


def test_the_order_is_given_up_where_many_keys_come_and_nobody_asks() -> None:
    order, keys = OrderedKeys(), {"a/1": 1}
    assert order.under("a/", keys) == ["a/1"]
    for number in range(10_000):
        keys[f"b/{number}"] = 1
        if order.touched is not None:
            order.touched.append(f"b/{number}")
        order.trim()
    assert order.touched is None
    assert order.under("b/", keys) == sorted(f"b/{number}" for number in range(10_000))


def test_to_count_and_to_begin_costs_no_look_at_all_of_them() -> None:
    class Keys(dict[str, int]):
        looks = 0

        def __contains__(self, key: object) -> bool:
            self.looks += 1
            return super().__contains__(key)

        def __iter__(self) -> Iterator[str]:
            self.looks += len(self)
            return super().__iter__()

    order, keys = OrderedKeys(), Keys({f"a/{number:06}": 1 for number in range(100_000)})
    assert order.count("a/", keys) == 100_000
    assert order.touched is not None
    keys.looks = 0
    for number in range(50):
        del keys[f"a/{number:06}"]
        order.touched.append(f"a/{number:06}")
    assert order.count("a/", keys) == 99_950
    assert next(order.each("a/", keys)) == "a/000050"
    assert keys.looks == 50


@pytest.mark.parametrize("arranged", ["in order", "at random"])
def test_they_are_brought_in_order_step_by_step(arranged: str) -> None:
    keys = {f"a/{number:06}": 1 for number in range(100_000)}
    if arranged == "at random":
        names = [*keys]
        random.Random(1).shuffle(names)
        keys = dict.fromkeys(names, 1)
    order = OrderedKeys()
    steps = order.sort_in_steps(keys)
    next(steps)
    assert order.touched == []
    for key in ("a/000500", "a/099999"):  # what comes and goes meanwhile
        del keys[key]
        order.touched.append(key)
    keys["b"] = 1
    order.touched.append("b")
    assert len([*steps]) > 10
    assert order.touched == ["a/000500", "a/099999", "b"]  # it was not sorted in one go
    assert order.under("", keys) == sorted(keys)
    assert not [*order.sort_in_steps(keys)]


def test_no_step_is_as_long_as_all_keys_are() -> None:
    """Nor does any let go of them all: a step takes, and frees, so many keys and no more."""
    names = [f"a/{number:06}" for number in range(100_000)]
    random.Random(1).shuffle(names)
    lengths = list[int]()
    for part in ordered._sorted_in_steps(names):
        lengths.append(len(names))
        assert len(part) < 2 * ordered._STEP
    assert lengths[0] == 100_000  # their list alone is a step
    steps = (before - after for before, after in pairwise(lengths))
    assert max(steps) == ordered._STEP
    assert lengths[-1] == 0


def test_who_cannot_wait_for_the_steps_has_the_order_at_once() -> None:
    keys = {f"a/{number:06}": 1 for number in range(50_000)}
    order = OrderedKeys()
    steps = order.sort_in_steps(keys)
    next(steps)
    assert order.touched is not None
    for number in range(5_000):
        keys[f"b/{number:06}"] = 1
        order.touched.append(f"b/{number:06}")
        order.trim()
    assert order.count("b/", keys) == 5_000
    assert len([*steps]) == 0
    assert order.under("", keys) == sorted(keys)
