"""The planner without a world: what may start when, and what is said of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest

from datasync.reconcile.needs import Needs
from datasync.reconcile.operations import Seen, Verb
from datasync.reconcile.planner import Planner
from datasync.reconcile.slots import Operation
from datasync.reconcile.states import State
from tests.helpers.reconcile.world import Things, Value, even


def planner(*, limit: int = 10, can_retrieve: bool = False) -> Planner:
    kind = Things("things", limit, can_retrieve=can_retrieve)
    return Planner(lambda key: kind, lambda attempt: float(attempt))


def carry_out(plan: Planner) -> list[str]:
    """All that can be done, successfully; what was done, in order."""
    log = []
    while ops := plan.start():
        for op in ops:
            log.append(f"{op.verb.value} {op.key}")
            plan.done(op, op.handle)
    return log


def state(plan: Planner, key: str) -> State | None:
    node = plan.graph.nodes.get(key)
    return None if node is None else node.state


def value(number: int = 0, *needs: str | Needs) -> Value:
    return Value(number, tuple(Needs.key(n) if isinstance(n, str) else n for n in needs))


def test_what_is_pending_is_applied_when_what_it_needs_comes() -> None:
    plan = planner()
    plan.put("route", value(0, "if"))
    assert carry_out(plan) == []
    assert state(plan, "route") is State.PENDING
    assert plan.outlook.unmet(plan.graph.nodes["route"]) == ["if"]

    plan.put("if", value())
    assert carry_out(plan) == ["create if", "create route"]
    assert state(plan, "route") is State.APPLIED


def test_deletes_come_before_what_they_stand_on() -> None:
    plan = planner()
    for key, needs in (("c", ["b"]), ("b", ["a"]), ("a", [])):
        plan.put(key, value(0, *needs))
    carry_out(plan)

    for key in ("a", "b", "c"):
        plan.delete(key)
    assert carry_out(plan) == ["delete c", "delete b", "delete a"]
    assert plan.graph.nodes == {}


def test_an_update_whose_needs_come_in_the_same_transaction_is_made_in_place() -> None:
    plan = planner()
    plan.put("if/0", value())
    plan.put("route", value(0, "if/0"))
    carry_out(plan)

    plan.put("route", value(1, "if/1"))
    plan.delete("if/0")
    plan.put("if/1", value())
    assert carry_out(plan) == ["create if/1", "update route", "delete if/0"]


def test_an_update_whose_needs_are_unmet_takes_the_object_down() -> None:
    plan = planner()
    plan.put("route", value())
    carry_out(plan)

    plan.put("route", value(1, "if"))
    assert carry_out(plan) == ["delete route"]
    assert state(plan, "route") is State.PENDING


def test_dependents_are_made_again_around_a_change() -> None:
    plan = planner()
    plan.put("if", value(0))
    plan.put("route", value(0, Needs.key("if", recreate_on_change=True)))
    carry_out(plan)

    plan.put("if", value(2))
    assert carry_out(plan) == ["delete route", "update if", "create route"]


def test_what_holds_up_what_it_waits_for_is_taken_down() -> None:
    plan = planner()
    plan.put("if", value(0))
    plan.put("route", value(0, Needs.key("if", recreate_on_change=True)))
    plan.put("rule", value(0, "route", "if"))
    carry_out(plan)

    plan.put("if", value(1))
    plan.put("rule", value(1, "if"))
    log = carry_out(plan)
    assert log[:3] == ["delete rule", "delete route", "update if"]
    assert sorted(log[3:]) == ["create route", "create rule"]


def test_parts_go_before_what_they_were_parts_of_changes() -> None:
    plan = planner()
    plan.put("if", Value(0, parts=(("if/x", value()), ("if/y", value()))))
    plan.put("route", value(0, "if/x"))
    carry_out(plan)

    plan.put("if", Value(1, parts=(("if/y", value()), ("if/z", value()))))
    assert carry_out(plan) == ["delete route", "delete if/x", "update if", "create if/z"]
    assert state(plan, "route") is State.PENDING


def test_a_part_that_fails_to_go_holds_up_nobody_else() -> None:
    plan = planner()
    plan.put("if", Value(0, parts=(("if/x", value()),)))
    carry_out(plan)

    plan.put("if", value(1))
    (op,) = plan.start()
    assert repr(op) == "Operation(3, delete 'if/x')"
    plan.failed(op, "busy", 0.0)
    plan.put("route", value(0, "if"))
    assert carry_out(plan) == ["create route"]
    assert state(plan, "if") is State.RUNNING

    plan.due(1.0)
    assert carry_out(plan) == ["delete if/x", "update if"]


def test_what_may_have_gone_is_seen_to_have_gone_though_another_comes() -> None:
    plan = planner(can_retrieve=True)
    plan.put("if/0", value())
    plan.put("route", value(0, Needs.under("if/", goes_with=True)))
    carry_out(plan)

    plan.delete("if/0")
    (op,) = plan.start()
    plan.failed(op, "cut off", 0.0)
    plan.put("if/1", value())
    (op,) = plan.start()
    assert (op.verb, op.key) == (Verb.RETRIEVE, "if/0")
    plan.retrieved(op, None)
    assert carry_out(plan) == ["create if/1", "create route"]


def test_an_old_reading_does_not_say_what_an_object_stands_on() -> None:
    plan = planner(can_retrieve=True)
    (kind,) = {plan.graph.node("a").kind}
    assert kind is not None
    plan.put("b/0", value())
    plan.put("a", value(0))
    carry_out(plan)

    reading = plan.begin_reading()
    plan.put("a", value(1, Needs.under("b/")))
    (op,) = plan.start()
    plan.failed(op, "cut off", 0.0)
    plan.read(reading, {kind: {"a": Seen(value(0)), "b/0": Seen(value())}})
    plan.delete("b/0")
    (op,) = plan.start()
    assert (op.verb, op.key) == (Verb.RETRIEVE, "a")
    plan.retrieved(op, Seen(value(1, Needs.under("b/"))))
    assert carry_out(plan) == ["delete a", "delete b/0"]


def test_what_may_stand_on_more_than_it_is_known_to_holds_that_up() -> None:
    plan = planner(can_retrieve=True)
    plan.put("if", value())
    plan.put("route", value(0))
    carry_out(plan)

    plan.put("route", value(1, "if"))
    (op,) = plan.start()
    plan.failed(op, "cut off", 0.0)
    plan.put("route", value(0))
    plan.delete("if")
    (op,) = plan.start()
    assert (op.verb, op.key) == (Verb.RETRIEVE, "route")
    plan.retrieved(op, Seen(value(1, "if")))
    assert carry_out(plan) == ["update route", "delete if"]


def test_while_a_kind_is_read_for_the_first_time_others_are_only_made() -> None:
    ifs, routes = Things("ifs"), Things("routes")
    plan = Planner(lambda key: ifs if key.startswith("if") else routes, float)
    plan.unread(ifs, "not yet")
    plan.unread(routes, "not yet")
    plan.put("if/1", value())
    reading = plan.begin_reading()
    plan.read(reading, {ifs: {"if/0": Seen(value())}}, last=False)
    assert carry_out(plan) == ["create if/1"]
    assert plan.unread_because(plan.graph.nodes["if/0"]) == "waits until routes could be read"
    assert not plan.is_quiet

    plan.read(reading, {routes: {"route": Seen(value(0, "if/0"))}})
    assert plan.is_quiet
    assert carry_out(plan) == ["delete route", "delete if/0"]


def test_a_kind_that_cannot_be_read_holds_up_nobody_else() -> None:
    ifs, routes = Things("ifs"), Things("routes")
    plan = Planner(lambda key: ifs if key.startswith("if") else routes, float)
    plan.unread(routes, "not yet")
    plan.notify("if/0", Seen(value()))
    assert plan.start() == []
    plan.still_unread(routes, "it hangs")
    plan.put("route", value())
    assert carry_out(plan) == ["delete if/0"]
    assert plan.unread_because(plan.graph.nodes["route"]) == "it hangs"


def test_what_is_only_derived_and_is_stored_is_invalid() -> None:
    plan = planner()
    kind = plan.graph.node("if/x").kind
    assert isinstance(kind, Things)
    plan.put("if", Value(0, parts=(("if/x", value(1)),)))
    kind.is_derived = True
    plan.put("other", value())
    assert carry_out(plan) == ["create if", "create if/x"]
    node = plan.graph.nodes["other"]
    assert node.state is State.INVALID
    assert node.problem is not None
    assert "derived" in node.problem.why


def test_a_part_that_is_found_without_what_it_is_a_part_of_goes_before_that_comes() -> None:
    plan = planner(can_retrieve=True)
    (kind,) = {plan.graph.node("if/x").kind}
    assert kind is not None
    plan.read(plan.begin_reading(), {kind: {"if/x": Seen(value(1))}})
    plan.put("if", Value(0, parts=(("if/x", value(2)),)))
    (op,) = plan.start()
    assert (op.verb, op.key) == (Verb.DELETE, "if/x")
    plan.done(op)
    assert carry_out(plan) == ["create if", "create if/x"]


def test_what_is_left_alone_holds_up_nothing() -> None:
    plan = planner(can_retrieve=True)
    plan.put("if", value())
    carry_out(plan)
    plan.notify("route", Seen(value(), ours=False))
    plan.put("route", value(1, "if"))
    (op,) = plan.start()
    plan.delete("route")
    plan.failed(op, "cut off", 0.0)
    (op,) = plan.start()
    assert op.verb is Verb.RETRIEVE
    plan.retrieved(op, Seen(value(), ours=False))

    plan.delete("if")
    assert carry_out(plan) == ["delete if"]
    assert state(plan, "route") is State.UNMANAGED


def test_what_hopes_for_something_that_would_stand_on_it_is_taken_down_once() -> None:
    plan = planner()
    plan.put("a", value(0))
    plan.put("b", Value(0, needs=(Needs.key("a"),), parts=(("b/x", value()),)))
    carry_out(plan)

    plan.put("a", value(1, "b/x"))
    assert carry_out(plan) == ["delete b/x", "delete b", "delete a"]
    assert state(plan, "a") is State.PENDING


def test_nothing_goes_on_account_of_what_may_not_be_there() -> None:
    plan = planner(can_retrieve=True)
    for key in ("if/0", "if/1"):
        plan.put(key, value())
    plan.put("route", value(0, Needs.under("if/")))
    carry_out(plan)

    plan.delete("if/0")
    (op,) = plan.start()
    plan.failed(op, "cut off", 0.0)
    plan.put("if/0", value(1))
    plan.delete("if/1")
    (op,) = plan.start()
    assert (op.verb, op.key) == (Verb.RETRIEVE, "if/0")
    plan.retrieved(op, None)
    assert carry_out(plan) == ["delete route", "create if/0", "delete if/1", "create route"]


def test_a_reading_that_began_before_another_says_nothing_more() -> None:
    plan = planner(can_retrieve=True)
    (kind,) = {plan.graph.node("a").kind}
    assert kind is not None
    plan.put("a", value(0))
    carry_out(plan)

    old = plan.begin_reading()
    plan.read(plan.begin_reading(), {kind: {}})
    assert state(plan, "a") is State.APPLIED
    plan.read(old, {kind: {"a": Seen(value(0)), "b": Seen(value(1))}})
    assert carry_out(plan) == ["create a"]


def test_another_object_in_the_place_of_one_that_may_have_gone_is_not_ours() -> None:
    plan = planner(can_retrieve=True)
    plan.put("if", value())
    plan.put("route", value(0, Needs.key("if", goes_with=True)))
    while ops := plan.start():
        for op in ops:
            plan.done(op, op.number)

    plan.delete("if")
    (op,) = plan.start()
    plan.failed(op, "cut off", 0.0)
    plan.notify("if", Seen(value(), handle=99, ours=False))
    (op,) = plan.start()
    assert (op.verb, op.key) == (Verb.RETRIEVE, "route")
    plan.retrieved(op, None)
    assert carry_out(plan) == ["create route"]
    assert state(plan, "if") is State.UNMANAGED


def test_what_goes_with_its_needs_is_not_deleted_a_second_time() -> None:
    plan = planner()
    plan.put("if", value())
    plan.put("route", value(0, Needs.key("if", goes_with=True)))
    carry_out(plan)

    plan.delete("if")
    assert carry_out(plan) == ["delete if"]
    assert state(plan, "route") is State.PENDING


@pytest.mark.parametrize(
    ("need", "why"),
    [
        (Needs.any_of("if/0", "if/1"), "any of if/0, if/1"),
        (Needs.under("if/"), "any under if/"),
    ],
)
def test_any_of_several_will_do_while_one_is_left(need: Needs, why: str) -> None:
    plan = planner()
    plan.put("route", value(0, need))
    assert carry_out(plan) == []
    assert plan.outlook.unmet(plan.graph.nodes["route"]) == [why]

    plan.put("if/0", value())
    plan.put("if/1", value())
    assert sorted(carry_out(plan)) == ["create if/0", "create if/1", "create route"]
    plan.delete("if/0")
    assert carry_out(plan) == ["delete if/0"]
    plan.delete("if/1")
    assert carry_out(plan) == ["delete route", "delete if/1"]


def test_what_was_found_and_is_stored_by_nobody_satisfies_needs() -> None:
    plan = planner(can_retrieve=True)
    plan.put("route", value(0, "lo"))
    assert carry_out(plan) == []

    plan.notify("lo", Seen(value(), ours=False))
    assert carry_out(plan) == ["create route"]
    assert state(plan, "lo") is State.UNMANAGED

    plan.notify("lo", None)
    assert carry_out(plan) == ["delete route"]


def test_what_is_to_go_is_being_removed_until_it_has_gone() -> None:
    plan = planner()
    plan.put("if", value())
    plan.put("route", value(0, "if"))
    carry_out(plan)

    plan.delete("if")
    (op,) = plan.start()
    assert (op.verb, op.key) == (Verb.DELETE, "route")
    assert state(plan, "if") is State.REMOVING
    plan.done(op)
    assert carry_out(plan) == ["delete if"]
    assert state(plan, "if") is None


def test_after_a_restart_an_invalid_value_leaves_what_is_found() -> None:
    plan = planner(can_retrieve=True)
    (kind,) = {plan.graph.node("a").kind}
    assert kind is not None
    plan.unread(kind, "not yet")
    plan.put("a", Value(2, bad=True))
    plan.put("b", Value(2, bad=True))
    plan.put("route", value(0, "a"))
    plan.read(plan.begin_reading(), {kind: {"a": Seen(value(1), 7)}})
    assert carry_out(plan) == ["create route"]
    assert state(plan, "a") is State.INVALID
    assert plan.graph.nodes["a"].have == value(1)
    assert state(plan, "b") is State.INVALID

    plan.put("a", value(3))
    assert carry_out(plan) == ["update a"]


def test_what_cannot_be_compared_is_left_alone_until_it_can_be() -> None:
    plan = planner(can_retrieve=True)
    (kind,) = {plan.graph.node("a").kind}
    assert isinstance(kind, Things)
    plan.put("a", value(1))
    carry_out(plan)

    def fail(key: str, old: Value, new: Value) -> bool:
        raise ValueError("garbage")

    right, kind.equal = kind.equal, fail  # type: ignore[method-assign]
    plan.notify("a", Seen(value(2), 7))
    assert carry_out(plan) == []
    assert state(plan, "a") is State.INVALID

    kind.equal = right  # type: ignore[method-assign]
    plan.notify("a", Seen(value(3), 7))
    assert carry_out(plan) == ["update a"]
    assert state(plan, "a") is State.APPLIED


def test_a_part_that_is_stored_or_has_two_parents_is_invalid() -> None:
    plan = planner()
    part = (("x", value(1)),)
    plan.put("a", Value(0, parts=part))
    plan.put("x", value(2))
    carry_out(plan)
    problem = plan.graph.nodes["x"].problem
    assert problem is not None
    assert problem.why == "derived from 'a', and stored as well"

    plan.delete("x")
    plan.put("b", Value(0, parts=part))
    carry_out(plan)
    problem = plan.graph.nodes["x"].problem
    assert problem is not None
    assert problem.why == "derived from 'a', 'b'"

    plan.delete("b")
    carry_out(plan)
    assert state(plan, "x") is State.APPLIED
    assert plan.graph.nodes["x"].have == value(1)


def test_a_value_that_does_not_satisfy_is_not_enough() -> None:
    plan = planner()
    plan.put("if", value(1))
    plan.put("route", value(0, Needs.key("if", satisfies=even)))
    assert carry_out(plan) == ["create if"]
    assert plan.outlook.unmet(plan.graph.nodes["route"]) == ["if that satisfies even"]

    plan.put("if", value(2))
    assert carry_out(plan) == ["update if", "create route"]


def test_a_cycle_is_named_by_each_of_those_in_it() -> None:
    plan = planner()
    plan.put("a", value(0, "b"))
    plan.put("b", value(0, "c"))
    plan.put("c", value(0, "a"))
    plan.put("d", value(0, "a"))
    assert carry_out(plan) == []

    nodes = plan.graph.nodes
    assert plan.outlook.cycle(nodes["a"]) == ("a", "b", "c")
    assert plan.outlook.cycle(nodes["c"]) == ("c", "a", "b")
    assert plan.outlook.cycle(nodes["d"]) == ()

    plan.put("c", value())
    assert carry_out(plan) == ["create c", "create b", "create a", "create d"]
    assert plan.outlook.cycle(nodes["a"]) == ()


def test_an_update_that_closes_a_cycle_takes_all_of_it_down() -> None:
    plan = planner()
    plan.put("a", value())
    plan.put("b", value(0, "a"))
    carry_out(plan)

    plan.put("a", value(1, "b"))
    assert carry_out(plan) == ["delete b", "delete a"]
    assert plan.outlook.cycle(plan.graph.nodes["a"]) == ("a", "b")


@pytest.mark.parametrize(
    ("need", "why"),
    [
        (Needs.key("a/1"), "needs itself (a/1)"),
        (Needs.any_of("b", "a/1"), "needs itself (any of b, a/1)"),
        (Needs.under("a/"), "needs itself (any under a/)"),
    ],
)
def test_what_needs_itself_is_invalid(need: Needs, why: str) -> None:
    plan = planner()
    plan.put("a/1", value(0, need))
    assert carry_out(plan) == []
    node = plan.graph.nodes["a/1"]
    assert node.state is State.INVALID
    assert node.problem is not None
    assert node.problem.why == why


def test_after_a_failure_the_object_is_read_and_tried_again_with_growing_waits() -> None:
    plan = planner(can_retrieve=True)
    plan.put("a", value())
    now = 100.0
    for attempt in (1, 2, 3):
        (op,) = plan.start()
        assert op.verb is Verb.CREATE
        plan.failed(op, "no", now)
        (op,) = plan.start()
        assert op.verb is Verb.RETRIEVE
        assert state(plan, "a") is State.FAILED
        plan.retrieved(op, None)
        assert plan.start() == []
        assert plan.next_retry == now + attempt
        now += attempt
        plan.due(now)
    assert carry_out(plan) == ["create a"]


def test_what_was_cancelled_for_a_newer_value_is_read_and_has_not_failed() -> None:
    plan = planner(can_retrieve=True)
    plan.put("a", value(1))
    (op,) = plan.start()
    assert not plan.is_outdated(op)
    plan.put("a", value(1))
    assert not plan.is_outdated(op)  # it makes just that
    plan.put("a", value(2))
    assert plan.is_outdated(op)

    plan.cancelled(op)
    (op,) = plan.start()
    assert op.verb is Verb.RETRIEVE
    assert not plan.is_outdated(op)
    assert state(plan, "a") is State.RUNNING
    plan.retrieved(op, Seen(value(1)))
    assert plan.next_retry is None
    assert carry_out(plan) == ["update a"]
    assert state(plan, "a") is State.APPLIED


def test_what_was_cancelled_and_cannot_be_read_is_as_it_was() -> None:
    plan = planner()
    plan.put("a", value(1))
    (op,) = plan.start()
    plan.delete("a")
    assert plan.is_outdated(op)
    plan.cancelled(op)
    assert carry_out(plan) == []
    assert plan.graph.nodes == {}


def test_a_permanent_failure_waits_for_another_value() -> None:
    plan = planner()
    plan.put("a", value())
    (op,) = plan.start()
    plan.failed(op, "never", 0.0, permanent=True)
    assert plan.start() == []
    assert plan.next_retry is None

    plan.put("a", value(1))
    assert carry_out(plan) == ["create a"]


def test_an_invalid_update_leaves_the_last_valid_value() -> None:
    plan = planner()
    plan.put("a", value(1))
    carry_out(plan)
    plan.put("a", Value(2, bad=True))
    assert carry_out(plan) == []
    assert state(plan, "a") is State.INVALID
    assert plan.graph.nodes["a"].have == value(1)


def test_what_is_found_right_is_not_touched_and_what_nobody_stores_is_left() -> None:
    plan = planner(can_retrieve=True)
    (kind,) = {plan.graph.node("a").kind}
    assert kind is not None
    plan.unread(kind, "not yet")
    plan.put("a", value(1))
    plan.put("b", value(2))
    assert plan.start() == []

    found = {
        "a": Seen(value(1), 7),
        "b": Seen(value(3), 8),
        "old": Seen(value(4), 9),
        "other": Seen(value(5), 10, ours=False),
    }
    plan.read(plan.begin_reading(), {kind: found})
    assert sorted(carry_out(plan)) == ["delete old", "update b"]
    assert state(plan, "other") is State.UNMANAGED


def test_no_more_than_the_limit_run_side_by_side() -> None:
    plan = planner(limit=3)
    for number in range(10):
        plan.put(f"a/{number}", value())
    most = 0
    left: list[Operation] = plan.start()
    while left:
        most = max(most, len(plan.running))
        plan.done(left.pop(0))
        left += plan.start()
    assert most == 3
    assert len(plan.running) == 0


@pytest.mark.parametrize("shape", ["fan", "chain", "random"])
def test_one_change_touches_as_many_objects_however_many_there_are(shape: str) -> None:
    touched = []
    for size in (1_000, 8_000):
        plan = planner(limit=64)
        rng = random.Random(1)

        def needs(number: int, rng: random.Random = rng) -> Iterable[str]:
            if shape == "fan" or not number:
                return ["a/0"] if number else []
            if shape == "chain":
                return [f"a/{number - 1}"] if number % 10 else []
            return {f"a/{rng.randrange(number)}" for _ in range(min(number, 10))}

        for number in range(size):
            plan.put(f"a/{number}", value(0, *needs(number)))
        carry_out(plan)
        before = plan.looks
        plan.put("more", value(0, "a/5", "a/6"))
        carry_out(plan)
        plan.put("more", value(1, "a/5", "a/6"))
        carry_out(plan)
        plan.delete("more")
        carry_out(plan)
        touched.append(plan.looks - before)
    assert touched[0] == touched[1]
    assert touched[0] < 30


def test_a_last_valid_value_that_is_refused_once_it_is_applied_is_not_tried_again() -> None:
    plan = planner()
    plan.put("route", value(0, "if"))
    plan.put("route", Value(1, bad=True))
    plan.put("if", value())
    [first] = plan.start()
    plan.done(first)

    [op] = plan.start()
    assert (op.verb, op.key, op.new) == (Verb.CREATE, "route", value(0, "if"))
    newest = plan.graph.nodes["route"].problem
    plan.refused(op, "the kernel says no")
    assert plan.start() == []
    assert state(plan, "route") is State.INVALID
    assert plan.graph.nodes["route"].problem is newest


def test_a_value_is_tried_though_an_older_one_failed_for_good_meanwhile() -> None:
    plan = planner()
    plan.put("if", value(0))
    (op,) = plan.start()
    plan.put("if", value(1))
    plan.failed(op, "no such device", 0.0, permanent=True)
    assert carry_out(plan) == []
    assert state(plan, "if") is State.FAILED

    plan.due(1.0)
    assert carry_out(plan) == ["create if"]
    assert state(plan, "if") is State.APPLIED


def test_what_failed_for_good_goes_before_what_it_stands_on() -> None:
    plan = planner()
    plan.put("if", value())
    plan.put("route", value(0, "if"))
    carry_out(plan)

    plan.put("route", value(1))
    (op,) = plan.start()
    plan.failed(op, "no such device", 0.0, permanent=True)
    assert carry_out(plan) == []

    plan.delete("if")
    assert carry_out(plan) == ["delete route", "delete if"]
    assert state(plan, "route") is State.FAILED


def test_what_failed_for_good_meets_the_needs_that_it_meets_as_it_is() -> None:
    plan = planner()
    plan.put("if", value(0))
    carry_out(plan)
    plan.put("if", value(1))
    (op,) = plan.start()
    plan.failed(op, "no such device", 0.0, permanent=True)

    plan.put("route", value(0, Needs.key("if", satisfies=even)))
    assert carry_out(plan) == ["create route"]


@pytest.mark.parametrize("need", [Needs.under("if/"), Needs.key("if/x")])
def test_nobody_waits_for_the_parts_of_what_failed_for_good(need: Needs) -> None:
    plan = planner()
    plan.put("if", Value(0, parts=(("if/x", value(0)),)))
    carry_out(plan)
    plan.put("if", Value(1, parts=(("if/x", value(1)),)))
    (op,) = plan.start()
    plan.failed(op, "no such device", 0.0, permanent=True)

    plan.put("route", value(0, need))
    assert carry_out(plan) == ["create route"]

    plan.put("if", Value(2, parts=(("if/x", value(1)),)))
    assert carry_out(plan) == ["update if", "update if/x"]


def test_nothing_is_made_on_what_may_have_gone_with_what_may_have_gone() -> None:
    plan = planner(can_retrieve=True)
    plan.put("if", value())
    plan.put("address", value(0, Needs.key("if", goes_with=True)))
    carry_out(plan)

    plan.delete("if")
    (op,) = plan.start()
    plan.put("if", value(2))
    plan.failed(op, "cut off", 0.0)
    plan.put("route", value(0, "address"))
    (op,) = plan.start()
    assert (op.verb, op.key) == (Verb.RETRIEVE, "if")

    plan.retrieved(op, None)
    plan.due(10.0)
    assert carry_out(plan) == ["create if", "create address", "create route"]


@pytest.mark.parametrize(
    "need",
    [
        Needs.any_of("if/0", "bond/0", goes_with=True),
        Needs.under("if/", goes_with=True),
    ],
)
def test_what_goes_with_one_of_several_is_read_where_nobody_could_read_the_others(
    need: Needs,
) -> None:
    things, bonds = Things("things", can_retrieve=True), Things("bonds", can_retrieve=True)
    plan = Planner(lambda key: bonds if "bond" in key else things, lambda attempt: float(attempt))
    for kind in (things, bonds):
        plan.unread(kind, "not yet")
    address = value(0, need)
    plan.put("address", address)
    found = {"if/0": Seen(value(), 1), "address": Seen(address, 2)}
    plan.read(plan.begin_reading(), {things: found})
    plan.still_unread(bonds, "no answer")

    (op,) = plan.start()
    assert (op.verb, op.key) == (Verb.DELETE, "if/0")
    plan.done(op)
    (op,) = plan.start()
    assert (op.verb, op.key) == (Verb.RETRIEVE, "address")
    plan.retrieved(op, Seen(address, 2))
    assert carry_out(plan) == ["delete address"]


def test_what_was_found_stands_again_once_all_of_it_is_known() -> None:
    plan = planner(can_retrieve=True)
    (kind,) = {plan.graph.node("a/2").kind}
    assert kind is not None
    plan.unread(kind, "not yet")
    there = {
        "b/1": value(),
        "a/2": value(0, "b/1", Needs.under("b/")),
        "b/2": value(0, Needs.any_of("a/2", "a/4"), "a/2"),
        "a/4": value(0, Needs.any_of("b/2", "a/3")),
    }
    plan.put("a/2", there["a/2"])
    plan.put("a/4", value(1, "gone"))
    plan.put("b/2", there["b/2"])
    plan.read(plan.begin_reading(), {kind: {key: Seen(its, 1) for key, its in there.items()}})
    assert carry_out(plan) == ["delete a/4", "delete b/2", "delete a/2", "delete b/1"]


def test_nobody_hopes_for_what_was_there_and_goes() -> None:
    plan = planner(limit=1)
    plan.put("if", value())
    plan.put("bridge", Value(0, parts=(("port/x", value()),)))
    plan.put("route", value())
    carry_out(plan)

    plan.put("bridge", Value(1, (Needs.key("if"),), parts=(("port/x", value()),)))
    (op,) = plan.start()
    plan.put("route", value(1, Needs.under("port/")))
    plan.delete("if")
    assert plan.start() == []
    plan.done(op)
    assert carry_out(plan) == ["delete port/x", "delete bridge", "delete if", "delete route"]
    assert state(plan, "route") is State.PENDING


def test_a_part_of_what_failed_for_good_meets_the_needs_that_it_meets_as_it_is() -> None:
    plan = planner()
    plan.put("if", Value(0, parts=(("if/x", value(0)),)))
    carry_out(plan)
    plan.put("if", Value(1, parts=(("if/x", value(1)),)))
    (op,) = plan.start()
    plan.failed(op, "no such device", 0.0, permanent=True)

    plan.put("route", value(0, Needs.under("if/", satisfies=even)))
    assert carry_out(plan) == ["create route"]

    plan.put("if", Value(2, parts=(("if/x", value(1)),)))
    assert carry_out(plan) == ["delete route", "update if", "update if/x"]


def with_parts_read_first(there: Value) -> tuple[Planner, Operation, Callable[[], None]]:
    """A part is taken down, for nobody knew yet of what it is one. Returns what reads that."""
    wholes, parts = Things("wholes"), Things("parts")
    plan = Planner(lambda key: parts if "/" in key else wholes, lambda attempt: float(attempt))
    for kind in (wholes, parts):
        plan.unread(kind, "not yet")
    reading = plan.begin_reading()
    plan.read(reading, {parts: {"if/x": Seen(value(), 2)}}, last=False)
    plan.still_unread(wholes, "no answer")
    (op,) = plan.start()
    assert (op.verb, op.key) == (Verb.DELETE, "if/x")
    return plan, op, lambda: plan.read(reading, {wholes: {"if": Seen(there, 1)}})


def test_a_part_goes_first_where_it_was_not_known_to_be_one_as_its_delete_failed() -> None:
    plan, op, read_whole = with_parts_read_first(Value(0, parts=(("if/x", value()),)))
    plan.failed(op, "busy", 0.0)
    (op,) = plan.start()
    assert (op.verb, op.key) == (Verb.RETRIEVE, "if/x")
    plan.put("if", Value(1, bad=True))
    read_whole()  # the last valid value is the one that was found, with the part
    plan.put("if", Value(2))
    assert plan.start() == []
    plan.retrieved(op, Seen(value(), 2))
    plan.due(1.0)
    assert carry_out(plan) == ["delete if/x", "update if"]


def test_nothing_changes_beside_what_has_turned_out_to_be_a_part_of_it() -> None:
    before, after = (Value(number, parts=(("if/x", value()),)) for number in (0, 1))
    plan, op, read_whole = with_parts_read_first(before)
    plan.put("if", after)
    read_whole()
    assert plan.start() == []
    plan.done(op)
    assert carry_out(plan) == ["update if", "create if/x"]


class Deriving(Things):
    """Each derives one part, and that another."""

    def __init__(self, part_of: Callable[[str], str]) -> None:
        super().__init__("things")
        self._part_of = part_of

    def derive(self, key: str, value: Value) -> dict[str, Value]:
        return {self._part_of(key): value}


def test_what_derives_what_it_is_a_part_of_is_invalid() -> None:
    kind = Deriving({"if": "if/x", "if/x": "if/x/y", "if/x/y": "if"}.__getitem__)
    plan = Planner(lambda key: kind, float)
    plan.put("if", value())
    assert carry_out(plan) == ["create if", "create if/x"]
    problem = plan.graph.nodes["if/x/y"].problem
    assert problem is not None
    assert problem.why == "derives 'if', of which it is a part"
    assert state(plan, "if") is State.APPLIED

    plan.delete("if")
    assert carry_out(plan) == ["delete if/x", "delete if"]
    assert plan.graph.nodes == {}


def test_deriving_ends_somewhere() -> None:
    kind = Deriving(lambda key: f"{key}/x")
    plan = Planner(lambda key: kind, float)
    for number in range(2):
        plan.put("if", value(number))
        carry_out(plan)
    (invalid,) = [node for node in plan.graph.nodes.values() if node.problem is not None]
    assert invalid.key == "if" + 32 * "/x"
    assert invalid.problem is not None
    assert invalid.problem.why == "derives parts, 32 deep below 'if'; there it ends"
    assert len(plan.graph.nodes) == 33

    plan.delete("if")
    carry_out(plan)
    assert plan.graph.nodes == {}


def test_a_part_that_is_left_alone_holds_up_nobody() -> None:
    plan = planner(can_retrieve=True)
    plan.put("if", Value(0, parts=(("if/x", value()),)))
    carry_out(plan)
    plan.put("if", value(1, "gone"))
    (op,) = plan.start()
    assert (op.verb, op.key) == (Verb.DELETE, "if/x")
    plan.done(op)
    # somebody else makes it
    there = {"if": Seen(Value(0, parts=(("if/x", value()),)), 1), "if/x": Seen(value(), 2, False)}
    assert op.node.kind is not None
    plan.read(plan.begin_reading(), {op.node.kind: there})
    assert carry_out(plan) == ["delete if"]
    assert state(plan, "if/x") is State.UNMANAGED
