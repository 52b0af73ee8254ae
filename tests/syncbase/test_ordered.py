"""The keys of a dict in order: what is under a prefix is what a look at all of them finds."""

from __future__ import annotations

import random

import pytest

from datasync.ordered import OrderedKeys

LETTERS = ["a", "b", "/", "0", "\ud7ff", "\ue000", "\U0010ffff"]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_under_a_prefix(seed: int) -> None:
    rng = random.Random(seed)
    order, keys = OrderedKeys(), dict[str, int]()

    def text(longest: int) -> str:
        return "".join(rng.choices(LETTERS, k=rng.randint(0, longest)))

    for _ in range(60):
        for key in {text(5) for _ in range(rng.choice([1, 3, 200]))}:
            if key not in keys and order.fresh is not None:
                order.fresh.append(key)
            keys[key] = 1
        for key in rng.sample(sorted(keys), k=rng.randint(0, len(keys))):
            del keys[key]
        if rng.random() < 0.1:
            order.forget()
        order.trim()

        for _ in range(rng.randint(0, 4)):
            prefix = text(2)
            assert order.under(prefix, keys) == sorted(
                key for key in keys if key.startswith(prefix)
            )


def test_the_order_is_given_up_where_many_keys_come_and_nobody_asks() -> None:
    order, keys = OrderedKeys(), {"a/1": 1}
    assert order.under("a/", keys) == ["a/1"]
    for number in range(10_000):
        keys[f"b/{number}"] = 1
        if order.fresh is not None:
            order.fresh.append(f"b/{number}")
        order.trim()
    assert order.fresh is None
    assert order.under("b/", keys) == sorted(f"b/{number}" for number in range(10_000))
