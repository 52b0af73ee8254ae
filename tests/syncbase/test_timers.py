"""When which watch is to be seen to."""

from __future__ import annotations

import gc
import weakref

from datasync.syncbase.subscriber import NO_TIMER, Spec, Subscriber
from datasync.syncbase.timers import Timers


class Watch(Subscriber):
    """One that can be looked for when nothing should lead to it."""

    __slots__ = ("__weakref__",)


def watch(name: str = "watch") -> Watch:
    return Watch(
        Spec(name, lambda key, raw: raw, backlog=1, ack_timeout=1.0, resync_timeout=1.0), ["a/"]
    )


def test_they_are_due_in_the_order_of_their_times() -> None:
    timers, first, second, third = Timers(), watch(), watch(), watch()
    timers.arm(third, 3.0)
    timers.arm(first, 1.0)
    timers.arm(second, 2.0)
    assert timers.heap[0][0] == 1.0
    assert list(timers.due(2.0)) == [first, second]
    assert first.timer is second.timer is NO_TIMER
    assert list(timers.due(2.5)) == []
    assert list(timers.due(3.0)) == [third]


def test_the_last_time_that_was_set_counts() -> None:
    timers, sub = Timers(), watch()
    timers.arm(sub, 1.0)
    timers.arm(sub, 5.0)
    assert list(timers.due(4.0)) == []
    assert list(timers.due(5.0)) == [sub]


def test_one_that_is_disarmed_is_not_due_and_nothing_leads_to_it() -> None:
    timers, sub = Timers(), watch()
    timers.arm(sub, 1.0)
    timers.disarm(sub)
    timers.disarm(sub)
    left = weakref.ref(sub)
    del sub
    gc.collect()
    assert left() is None
    assert list(timers.due(9.0)) == []


def test_one_may_be_armed_again_while_the_due_ones_are_seen_to() -> None:
    timers, sub = Timers(), watch()
    timers.arm(sub, 1.0)
    seen = []
    for due in timers.due(2.0):
        seen.append(due)
        timers.arm(due, 3.0)
    assert seen == [sub]
    assert list(timers.due(3.0)) == [sub]


def test_arming_again_and_again_keeps_no_more_than_a_few_entries() -> None:
    """A watch that reports at once is armed and disarmed for each event:
    none of it may be kept until its time.
    """
    timers, sub, other = Timers(), watch(), watch("other")
    timers.arm(other, 0.5)
    for number in range(10_000):
        timers.arm(sub, 1_000.0 + number)
    assert len(timers.heap) < 200
    assert list(timers.due(20_000.0)) == [other, sub]
