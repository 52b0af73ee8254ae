"""Scopes, router and mirror, each held against the plainest way to say the same."""

from __future__ import annotations

import random
import threading
import tracemalloc
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasync.events import Record
from datasync.ordered import OrderedKeys
from datasync.scopes import Scopes, is_prefix
from datasync.syncbase.mirror import Mirror, Pairs, Staging
from datasync.syncbase.router import Router
from tests.helpers.growth import Steps

MANY = ["x/", "y/", "z/", "xx/", "xy/", "xz/", "yx/", "yy/", "x"]
"""Other scopes than the keys lie in, so many that they are looked up."""
names = st.text("ab/", min_size=0, max_size=6)
keys = st.text("ab/", min_size=1, max_size=7)


def lies_in(key: str, scope: str) -> bool:
    return key.startswith(scope) if is_prefix(scope) else key == scope


@given(st.lists(names, max_size=5), st.lists(keys, max_size=8))
def test_a_key_is_in_scopes_when_it_is_in_one_of_them(scopes: list[str], tried: list[str]) -> None:
    for together in Scopes(scopes), Scopes([*scopes, *MANY]):
        for key in tried:
            assert (key in together) == any(lies_in(key, scope) for scope in scopes)


@given(st.lists(names, max_size=6), st.lists(keys, max_size=8))
def test_minimal_scopes_hold_the_same_keys_and_none_lies_in_another(
    scopes: list[str], tried: list[str]
) -> None:
    minimal = Scopes(scopes).minimal()
    for key in tried:
        assert (key in minimal) == (key in Scopes(scopes))
    for scope in minimal:
        assert not any(lies_in(scope, other) for other in minimal if other != scope)


class Watch(msgspec.Struct, eq=False):
    order: int
    scopes: list[str]

    def __hash__(self) -> int:
        return self.order


@given(
    st.lists(st.lists(names, min_size=1, max_size=3, unique=True), max_size=5),
    st.lists(keys, max_size=8),
)
def test_the_router_finds_every_watch_once_and_in_order(
    scopes: list[list[str]], tried: list[str]
) -> None:
    router: Router[Watch] = Router()
    watches = [Watch(order, mine) for order, mine in enumerate(scopes)]
    for watch in reversed(watches):
        for scope in watch.scopes:
            router.add(scope, watch)

    def check() -> None:
        for key in tried:
            expected = [
                watch for watch in watches if any(lies_in(key, scope) for scope in watch.scopes)
            ]
            assert list(router.match(key)) == expected
        found = router.match_all([(key,) for key in tried])
        assert found is None or all(router.match(key) == found for key in tried)

    check()
    while watches:
        gone = watches.pop(0)
        for scope in gone.scopes:
            router.remove(scope, gone)
        check()


class Key(str):
    """Counts how often its directory, or another part of it, is looked at."""

    __slots__ = ()
    looks = 0

    def __getitem__(self, index: Any) -> str:
        Key.looks += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("others", [[], ["b/", "a/c/deeper/", "a/b"]])
def test_of_keys_that_begin_alike_the_router_looks_at_a_few(others: list[str]) -> None:
    """However many there are, and in however many directories."""
    router = Router[Watch]()
    for order, scope in enumerate(["a/", "a/b/", *others]):
        router.add(scope, Watch(order, [scope]))

    looks = []
    for count in (10, 1000):
        changes = [(Key(f"a/b/long enough/{number}/key"), None) for number in range(count)]
        random.Random(1).shuffle(changes)
        Key.looks = 0
        found = router.match_all(changes)
        looks.append(Key.looks)
        assert [watch.order for watch in found or ()] == [0, 1]
    assert looks == [3, 3]


def test_keys_that_may_concern_several_watches_are_looked_at_one_by_one() -> None:
    router = Router[Watch]()
    for order, scope in enumerate(["a/", "a/b/", "c/key"]):
        router.add(scope, Watch(order, [scope]))
    for tried in ["a/a", "a/b/c"], ["a/c", "b/c", "a/b/c"], ["c/kex", "c/key"], list[str]():
        assert router.match_all([(key,) for key in tried]) is None
    assert router.match_all([("c/key",)]) == router.match("c/key")


def test_a_prefix_without_its_slash_would_match_its_neighbours() -> None:
    assert "a/bc" not in Scopes(["a/b/"])
    assert "a/b" not in Scopes(["a/b/"])
    assert "/a" in Scopes(["/"])
    assert "a" not in Scopes(["/"])


def merged(layers: list[dict[str, bytes]]) -> dict[str, bytes]:
    result: dict[str, bytes] = {}
    for layer in layers:
        result.update(layer)
    return result


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_the_mirror_equals_merged_dicts(count: int, seed: int) -> None:
    rng = random.Random(seed)
    mirror = Mirror([f"layer {index}" for index in range(count)], threading.RLock())
    model: list[dict[str, bytes]] = [{} for _ in range(count)]
    universe = [f"{directory}/{name}" for directory in ("a", "b", "a/b") for name in range(4)] + [
        "top"
    ]
    held: list[tuple[Pairs, list[tuple[str, Record]]]] = []
    for revision in range(1, 60):
        index = rng.randrange(count)
        before = merged(model)
        if rng.random() < 0.15:
            scopes = Scopes(rng.choice([[""], ["a/"], ["b/", "top"]]))
            fresh = {
                key: rng.randbytes(1) for key in universe if key in scopes and rng.random() < 0.5
            }
            staging = Staging()
            mirror.stage(index, staging, [(key, raw, revision) for key, raw in fresh.items()])
            diffs = list(mirror.replace(index, scopes, staging))
            model[index] = {
                key: raw for key, raw in model[index].items() if key not in scopes
            } | fresh
        else:
            changes = {
                key: rng.choice([None, b"1", b"2"])
                for key in rng.sample(universe, rng.randrange(1, 5))
            }
            diffs, same = mirror.apply(index, list(changes.items()), revision)
            for key, raw in changes.items():
                if raw is None:
                    model[index].pop(key, None)
                else:
                    model[index][key] = raw
            assert {diff[0] for diff in diffs} | {diff[0] for diff in same} == set(changes)
        after = merged(model)
        assert {key: record.raw for key, record in mirror.records.items()} == after
        stepped = {key: (old and old.raw, new and new.raw) for key, old, new in diffs}
        expected = {
            key: (before.get(key), after.get(key))
            for key in before | after
            if before.get(key) != after.get(key)
        }
        assert stepped == expected
        for scope in ("", "a/", "a/b/", "b/", "top", "c/"):
            under = mirror.under(scope)
            assert [key for key, _ in under] == sorted(key for key in after if lies_in(key, scope))
            assert all(record is mirror.records[key] for key, record in under)
            assert [*under] == [under[at] for at in range(len(under))]
            assert [*under[1:3]] == [*under][1:3]
            held.append((under, [*under]))
        del held[: -rng.randrange(1, 12)]
        for under, as_it_was in held:
            assert [*under] == as_it_was  # G4: whatever changes meanwhile


def test_records_name_their_layer_and_cost_no_more_for_it() -> None:
    mirror = Mirror(["low", "high"], threading.RLock())
    mirror.apply(0, [("a", b"1"), ("b", b"1")], 1)
    mirror.apply(1, [("a", b"2")], 7)
    assert mirror.records["a"].source == "high"
    assert mirror.records["b"].source == "low"
    assert type(mirror.records["a"]).__struct_fields__ == ("raw", "revision")


def test_prune_forgets_what_lies_outside() -> None:
    mirror = Mirror(["only"], threading.RLock())
    mirror.apply(0, [("a/1", b"1"), ("b/1", b"1")], 1)
    before = mirror.under("")
    mirror.prune(0, Scopes(["a/"]))
    assert [key for key, _ in mirror.under("")] == ["a/1"]
    assert [key for key, _ in before] == ["a/1", "b/1"]


def test_a_snapshot_keeps_the_records_of_what_stands_as_it_stood() -> None:
    mirror = Mirror(["only"], threading.RLock())
    mirror.apply(0, [("a/1", b"1"), ("a/2", b"1"), ("b/1", b"1")], 1)
    one = mirror.get("a/1")
    staging = Staging()
    mirror.stage(0, staging, [("a/1", b"1", 1), ("a/2", b"2", 2), ("a/3", b"3", 3)])
    diffs = [*mirror.replace(0, Scopes(["a/"]), staging)]
    assert mirror.get("a/1") is one
    assert [key for key, _, _ in diffs] == ["a/2", "a/3"]
    assert [key for key, _ in mirror.under("")] == ["a/1", "a/2", "a/3", "b/1"]


@pytest.mark.parametrize("layers", [["only"], ["only", "above"]])
@pytest.mark.parametrize("before", [0, 1])
def test_what_a_snapshot_adds_is_told_as_it_was(before: int, layers: list[str]) -> None:
    """Also where it is asked for only later, and the mirror has forgotten some of it by then."""
    mirror = Mirror(layers, threading.RLock())
    mirror.apply(0, [("z/old", b"1")][:before], 1)
    assert len(mirror.under("")) == before  # there is an order from now on
    staging = Staging()
    mirror.stage(0, staging, [("a/1", b"1", 1), ("b/1", b"1", 1)])
    diffs = mirror.replace(0, Scopes(["a/", "b/"]), staging)
    mirror.prune(0, Scopes(["a/", "z/"]))
    assert [key for key, _ in mirror.under("")] == ["a/1", "z/old"][: 1 + before]
    assert [(key, old) for key, old, _ in diffs] == [("a/1", None), ("b/1", None)]


@pytest.mark.parametrize("layer", range(3))
def test_a_snapshot_is_merged_without_a_look_at_each_key(layer: int) -> None:
    """The loop is held meanwhile: what this layer shows wins over those below, and not over those
    above it."""
    keys = [f"a/{number:05}" for number in range(5_000)]
    mirror = Mirror(["lowest", "middle", "highest"], threading.RLock())
    for other in {0, 1, 2} - {layer}:
        mirror.apply(other, [("a/00007", b"%d" % other), (f"b/{other}", b"")], 1)
    staging = Staging()
    mirror.stage(layer, staging, [(key, b"%d" % layer, 2) for key in keys])

    steps = Steps()
    with steps:
        diffs = mirror.replace(layer, Scopes(["a/"]), staging)
        shown = mirror.under("a/")
    assert steps.count < 1_000
    assert [key for key, _ in shown] == keys
    assert shown[7][1].raw == (b"2" if layer < 2 else b"%d" % layer)
    told = {key: (old and old.raw, new and new.raw) for key, old, new in diffs}
    assert told.pop(keys[7], None) == ((b"1", b"2") if layer == 2 else None)
    assert told == dict.fromkeys(keys[:7] + keys[8:], (None, b"%d" % layer))


def test_what_comes_in_order_is_not_sorted_again() -> None:
    for chunks in (["ab", "cd"], ["ba", "cd"], ["cd", "ab"], ["ab", "bc"], ["", "a"]):
        mirror, staging = Mirror(["only"], threading.RLock()), Staging()
        for chunk in chunks:
            mirror.stage(0, staging, [(key, b"", 1) for key in chunk])
        whole = "".join(chunks)
        assert staging.names == (list(whole) if list(whole) == sorted({*whole}) else None)
        mirror.replace(0, Scopes([""]), staging)
        mirror.apply(0, [("b2", b"")], 2)
        assert [*mirror.keys("")] == sorted({*whole, "b2"})


def test_a_copy_of_pairs_holds_nothing_else() -> None:
    mirror = Mirror(["only"], threading.RLock())
    mirror.apply(0, [("a/1", b"1"), ("a/2", b"1"), ("b/secret", b"1")], 1)
    pairs = mirror.under("a/")
    names, records = pairs.__reduce__()[1]
    assert [*zip(names, records, strict=True)] == [*pairs]


def test_what_nobody_reads_any_more_is_not_copied() -> None:
    mirror = Mirror(["only"], threading.RLock())
    mirror.apply(0, [("a/1", b"1"), ("a/2", b"1")], 1)
    mine = mirror.records
    one, two = mirror.under("a/"), mirror.under("")
    del one
    del two
    mirror.apply(0, [("a/1", b"2")], 2)
    assert mirror.records is mine

    few = mirror.under("a/1")
    mirror.apply(0, [("a/1", b"3")], 3)
    assert mirror.records is mine
    assert [record.raw for _, record in few] == [b"2"]

    most = mirror.under("a/")
    mirror.apply(0, [("a/1", b"4")], 4)
    assert mirror.records is not mine
    assert [record.raw for _, record in most] == [b"3", b"1"]


@pytest.mark.parametrize("seed", range(20))
def test_scopes_that_join_others(seed: int) -> None:
    rng = random.Random(seed)

    def some(most: int) -> set[str]:
        return {
            "/".join(rng.choices(["", "a", "b"], k=rng.randint(1, 4)))
            for _ in range(rng.randint(0, most))
        }

    for _ in range(50):
        before, new = Scopes(some(20)).minimal(), some(rng.choice([3, 30]))
        union = Scopes([*before, *new])
        assert before.union(new) == union
        assert before.joined(new) == union.minimal()
        assert union.without(before) == [scope for scope in union if scope not in before]
        assert union.contains_all_of(before)
        assert before.contains_all_of(union) == all(before.has(scope) for scope in new)


def test_what_was_found_for_directories_is_bounded_in_bytes() -> None:
    class Watch:
        order = 1

    scopes, router = Scopes(f"{number}/" for number in range(20)), Router[Watch]()
    for number in range(20):
        router.add(f"{number}/", Watch())
    tracemalloc.start()
    try:
        for number in range(200):
            key = f"{number}/{'x' * 1_000_000}/key"
            assert (key in scopes) == (number < 20)
            assert len(router.match(key)) == (number < 20)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 50 << 20


def test_a_key_that_is_not_text_is_refused_before_anything_is_taken_over() -> None:
    mirror = Mirror(["only"], threading.RLock())
    wrong: list[Any] = [("a", b"1", 1), (b"b", b"1", 1)]
    with pytest.raises(TypeError, match=r"the key b'b' is of type bytes"):
        mirror.apply(0, [item[:2] for item in wrong], 1)
    assert mirror.records == {}
    with pytest.raises(TypeError, match=r"the key b'b' is of type bytes"):
        mirror.stage(0, Staging(), wrong)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_mirror_that_no_other_thread_reads_locks_nothing(layers: int) -> None:
    class Counting:
        taken = 0

        def acquire(self) -> None:
            self.taken += 1

        __enter__ = acquire

        def release(self, *error: object) -> None:
            self.taken += 1

        __exit__ = release

    lock = Counting()
    mirror = Mirror([f"layer {index}" for index in range(layers)], lock)
    mirror.apply(0, [("a", b"1")], 1)
    assert mirror.get("a") is not None
    assert lock.taken == 0
    mirror.share()
    mirror.apply(0, [("a", b"2")], 2)
    assert lock.taken == 2


def test_the_order_of_keys_is_asked_for_under_the_lock_alone() -> None:
    """To ask brings it up to date, and another thread may be doing so (G12)."""

    class Depth:
        held = 0

        def acquire(self) -> None:
            self.held += 1

        def release(self) -> None:
            self.held -= 1

        def __enter__(self) -> None:
            self.acquire()

        def __exit__(self, *error: object) -> None:
            self.release()

    lock = Depth()
    asked = 0

    class Order(OrderedKeys):
        def under(self, prefix: str, keys: Mapping[str, object]) -> list[str]:
            nonlocal asked
            asked += 1
            assert lock.held
            return super().under(prefix, keys)

    mirror = Mirror(["only"], lock)
    mirror.share()
    mirror._order = Order()
    mirror.apply(0, [("a/1", b"1"), ("b/1", b"1")], 1)
    mirror.under("a/")
    staging = Staging()
    mirror.stage(0, staging, [("a/2", b"2", 2)])
    assert [key for key, _, _ in mirror.replace(0, Scopes(["a/"]), staging)] == ["a/1", "a/2"]
    assert asked == 2


@pytest.mark.parametrize("layers", [1, 2])
def test_other_threads_read_the_mirror_between_two_commits(layers: int) -> None:
    mirror = Mirror([f"layer {index}" for index in range(layers)], threading.RLock())
    mirror.apply(0, [("a", b"old"), ("b", b"old")], 1)
    mirror.share()
    read: list[tuple[bytes, ...]] = []

    def look() -> None:
        one, under = mirror.get("a"), mirror.under("")
        assert one is not None
        read.append((one.raw, *(record.raw for _, record in under)))

    thread = threading.Thread(target=look)

    class Records(dict[str, Record]):
        """Another thread reads when half of a commit has been taken over."""

        def __setitem__(self, key: str, record: Record) -> None:
            super().__setitem__(key, record)
            if key == "a":
                thread.start()
                thread.join(0.2)  # it would be done by then, were it not kept out

    mirror.records = Records(mirror.records)
    mirror.apply(0, [("a", b"new"), ("b", b"new")], 2)
    thread.join()
    assert read == [(b"new", b"new", b"new")]
