"""What is to be done next, so that the objects become what is stored.

The planner does no I/O and has no tasks and no clock. It is told what is stored, what was found and
how operations ended, and says which operations may start now; independent ones may run side by
side. There is no list of steps that is worked off: each object decides for itself from what its
neighbours say, so that whatever comes in between, the next step is right.

A turn has two phases. First all that have something to decide do so (`_look`), until nobody has:
what will go, change or stay is then known all over the graph. Only then operations start, those
whose time has come (`_begin`):

- a CREATE when all that it needs is there and at rest, and nothing stands on what was there before;
- a DELETE when nothing stands on it any more;
- an UPDATE when those have gone that its new value would leave without what they need, and the
  parts that it does not have;
- none of them while an operation runs on what the object stands on, or on what stands on it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from datasync.reconcile.discovery import Discovery
from datasync.reconcile.facts import (
    has_leaving,
    is_at_rest,
    is_right,
    is_still,
    is_stuck,
    is_uncertain,
    key_of,
    state_of,
    waits,
)
from datasync.reconcile.operations import Changed, Problem, Seen, Trouble, Verb
from datasync.reconcile.rules import Rules
from datasync.reconcile.slots import ABSENT, Change, Choice, Node, Operation, Slot
from datasync.reconcile.states import FOLLOWS

__all__ = ["Planner"]

_ORDER = (Verb.RETRIEVE, Verb.DELETE, Verb.UPDATE, Verb.CREATE)


class Planner(Discovery):
    """See above.

    kind_of: the kind of a key, None where there is none.
    delay: the seconds to wait after so many failures (1, 2, ...) of one object.

    `start` is called after each operation that has ended, before anything that is found is told.

    None of the objects of a kind that is `unread` is touched before `read` was called for it; while
    one is read for the first time, others are only made.
    """

    def __init__(
        self, kind_of: Callable[[str], Rules | None], delay: Callable[[int], float]
    ) -> None:
        super().__init__(kind_of)
        self.looks = 0
        """How often an object was looked at."""
        self.running: dict[int, Operation] = {}
        """The operations that have started and not ended, by their number."""
        self._delay = delay
        self._number = 0
        self._candidates: dict[Node, None] = {}
        self._count: dict[Rules, int] = {}
        self._queues: dict[Rules, dict[Node, None]] = {}
        self._retries: list[tuple[float, int, Node]] = []
        self._changes: list[Changed] = []
        self._hoping: dict[Node, None] = {}
        """Those that stay as they are until what they are to need has come."""
        self._blocked: dict[Node, None] = {}
        """Those that may have been all that others stand on."""

    # -- a turn ------------------------------------------------------------------------------------

    def start(self) -> list[Operation]:
        """The operations that may start now, and count as started."""
        return [op for op in self.steps() if op is not None]

    def steps(self) -> Iterator[Operation | None]:
        """The same one step at a time: each operation as it starts, and None after what brought
        none. Each step is short, however many objects there are.

        Others may have their turn between two steps, yet nothing may be told before the last one:
        nothing is decided by half, for operations start only once all have decided.
        """
        yield from self._start_all()
        while not self.running and self._blocked:
            yield self._free_one()
            if not self._dirty:
                break
            yield from self._start_all()  # it has turned out that others stand differently

    def _start_all(self) -> Iterator[Operation | None]:
        """Until nobody has anything to decide."""
        yield from self._spread()
        while (
            self._dirty or self._candidates or self._suspects or self._disappointed
            or self._take_from_queues()
        ):  # fmt: skip
            while self._dirty:
                self._look(self._dirty.popleft())
                yield None
                if self._vanished or self.graph.unheard:
                    yield from self._spread()
            if self._released:
                yield from self._retain_moved()
            self.graph.moved.clear()
            if self._dirty:
                continue
            if self._suspects:
                yield from self._examine_suspects()
                continue
            if self._disappointed and self._judge():
                continue
            yield from self._begin_candidates()

    def _spread(self) -> Iterator[None]:
        """Tell those who have not heard, and take those for gone that went with what has gone."""
        while self._vanished or self.graph.unheard:
            yield from self.graph.telling()
            if self._vanished:
                self._vanish(self._vanished.pop())
                yield

    def _begin_candidates(self) -> Iterator[Operation | None]:
        """Now that all have decided."""
        candidates, self._candidates = self._candidates, {}
        by_verb: dict[Verb, list[Node]] = {verb: [] for verb in _ORDER}
        for node in candidates:
            verb = self._verb(node)
            if verb is not None:
                by_verb[verb].append(node)
            yield None
        for verb in _ORDER:
            for node in by_verb[verb]:
                yield self._begin(node, verb)
                yield from self.graph.telling()

    def _free_one(self) -> Operation | None:
        """Where all that some stand on is to go, and some of it stands on them in turn, everybody
        waits for everybody: begin with one of which there are others."""
        for node in sorted(self._blocked, key=key_of):
            verb = self._verb(node)
            if verb is None or not node.blocks:
                del self._blocked[node]
            elif self.graph.has_others(node):
                op = self._begin(node, verb, freed=True)
                if op is not None:
                    return op
        return None

    def _take_from_queues(self) -> bool:
        """Wake as many of those that wait for others of their kind as may start now."""
        for kind, queue in list(self._queues.items()):
            for _ in range(min(kind.limit - self._count[kind], len(queue))):
                node = next(iter(queue))
                del queue[node]
                self._wake(node)
            if not queue:
                del self._queues[kind]
        return bool(self._dirty)

    def changes(self) -> list[Changed]:
        """The objects that have come into another state since this was last asked."""
        changes, self._changes = self._changes, []
        return changes

    @property
    def is_quiet(self) -> bool:
        """Whether nothing more comes by itself before `next_retry`."""
        return not self.running and not self._awaited

    @property
    def next_retry(self) -> float | None:
        """When `due` wants to be called."""
        while self._retries and not _retries_at(*self._retries[0]):
            heapq.heappop(self._retries)
        return self._retries[0][0] if self._retries else None

    def due(self, now: float) -> None:
        """Try again those whose time has come."""
        while self._retries and self._retries[0][0] <= now:
            _, _, node = heapq.heappop(self._retries)
            trouble = node.trouble
            if trouble is not None and trouble.retry_at is not None and trouble.retry_at <= now:
                trouble.retry_at = None
                self._disappointed = True  # it is at rest no more
                self._wake(node)

    def _look(self, node: Node) -> None:
        """Decide what is to become of an object, and tell its neighbours."""
        self.looks += 1
        node.queued = False
        op = node.op
        node.next = None if op is not None else self._intent(node)
        if op is None:
            goes = node.next is Verb.DELETE
        else:
            goes = op.verb is Verb.DELETE or (op.verb is Verb.RETRIEVE and not node.held)
        if node.next is not Verb.DELETE:
            self._retain(node)
        if self._hoping:
            if node.next is not Verb.UPDATE:
                self._hoping.pop(node, None)
            if goes and node.held:
                self._disappointed = True  # it was ready, and may not come again

        self.graph.hold(node, node.have is not ABSENT and not goes)
        self.graph.offer(node)
        if is_at_rest(node):
            self.graph.waiting.unpark(node)
        if self._verb(node) is not None:
            self._candidates[node] = None
        self._enter(node)

        if node.family is not None:
            for part in node.family.parts:
                if part.next is Verb.UPDATE:  # it may be held up, or no more
                    self._wake(part)

    def _intent(self, node: Node) -> Verb | None:
        """What would have to be done, were it its turn."""
        if node.kind is None or node.kind in self._unread:
            return None
        trouble = node.trouble
        if trouble is not None and not trouble.uncertain and is_right(node):
            node.trouble = None
        if node.have is ABSENT:
            return None if node.goal is ABSENT else Verb.CREATE
        if node.goal is ABSENT:
            return Verb.DELETE if node.owned else None
        if node.change is Change.NONE:
            return Verb.DELETE if node.unmet else None
        stays = all(slot.held for slot in node.leans)
        if is_stuck(node) and stays:
            return None
        if node.change is Change.RECREATE:
            return Verb.DELETE

        new = [slot for slot in node.needs if slot not in node.leans]
        if new and self.graph.is_leaned_on(node) and self.graph.rests_on(new, node):
            return Verb.DELETE  # it would stand on itself
        if self.graph.changes_under_itself(node):
            return Verb.DELETE
        if (new or node.unmet or not stays) and not self._hopes(node, new):
            return Verb.DELETE
        if waits(node) and not stays:
            return Verb.DELETE  # what it stands on goes, and it cannot change over
        return Verb.UPDATE

    def _hopes(self, node: Node, new: Iterable[Slot]) -> bool:
        """Whether it stays as it is, and holds up what is to go below it, for all that it is to
        need may come by itself."""
        if node in self._hopeless or not all(slot.held or slot in new for slot in node.needs):
            return False
        if node not in self._hoping:
            self._hoping[node] = None
            self._disappointed = True
        return True

    def _examine_suspects(self) -> Iterator[None]:
        """Those that were found may stand on each other alone."""
        suspects, self._suspects = self._suspects, {}
        choices: dict[Choice, None] = {}
        for node in suspects:
            choices.update(dict.fromkeys(self.graph.choices_of(node)))
            choices.update((slot, None) for slot in node.leans if isinstance(slot, Choice))
            yield
        for choice in choices:
            self.graph.drop_loops(choice)
            yield from self.graph.telling()
            yield

    def _judge(self) -> bool:
        """See who hopes in vain, now that all have decided. Whether anybody does."""
        self._disappointed = False
        for node in self.outlook.in_vain(self._hoping):
            self._hopeless.add(node)
            self._wake(node)
        self._disappointed = bool(self._dirty)  # what they do may disappoint others
        return self._disappointed

    def _verb(self, node: Node) -> Verb | None:
        """The operation that it waits for, unless its time has not come."""
        if node.op is not None or node.kind is None or node.kind in self._unread:
            return None
        trouble = node.trouble
        if trouble is not None and trouble.uncertain:
            # the first time at once
            again = trouble.verb is Verb.RETRIEVE and trouble.retry_at is not None
            return None if again else Verb.RETRIEVE
        if waits(node) and not self._gives_way(node):
            return None
        if node.unmet and node.next in (Verb.CREATE, Verb.UPDATE):
            return None
        if self._awaited and node.next is not Verb.CREATE:
            return None
        return node.next

    def _gives_way(self, node: Node) -> bool:
        """Whether it goes for the sake of what it stands on, though something else failed."""
        trouble = node.trouble
        return (
            node.next is Verb.DELETE
            and trouble is not None
            and trouble.verb is not Verb.DELETE
            and not all(slot.held for slot in node.leans)
        )

    def _begin(self, node: Node, verb: Verb, *, freed: bool = False) -> Operation | None:
        """Start it, if nothing stands in its way; else it is looked at again when that has gone.

        freed: nothing falls at once if it goes, though all that is left will go as well.
        """
        kind = node.kind
        assert kind is not None
        if node.queued:
            return None
        if self._count.get(kind, 0) >= kind.limit:
            self._queues.setdefault(kind, {})[node] = None
            return None

        slots: tuple[Slot, ...] = ()
        if verb is not Verb.RETRIEVE:
            if has_leaving(node) if verb is Verb.UPDATE else node.leaning:
                return None  # the last of them wakes it
            if verb is not Verb.CREATE:
                # what others have come to stand on since it was looked at
                goes = verb is Verb.UPDATE and self.graph.changes_under_itself(node)
                if goes or self.graph.stands_again(node):
                    self._wake(node)
                    return None
                if node.blocks and not freed:
                    self._blocked[node] = None
                    return None
                if not self._quiet_above(node) or not self._is_sure(node):
                    return None
            if verb is not Verb.DELETE and not self._is_settled(node):
                return None
            slots = node.leans
            if verb is not Verb.DELETE and node.leans is not node.needs:
                slots = tuple(dict.fromkeys((*node.needs, *node.leans)))
            if not self._quiet_below(node, slots, verb):
                return None
            if verb is Verb.DELETE and self._goes_along(node):
                return None

        self._number += 1
        new = ABSENT if verb is Verb.DELETE else node.goal
        op = Operation(
            self._number, verb, node.key, kind, node.have, new, node.goal, node.handle,
            node, node.needs, node.leans, slots,
        )  # fmt: skip
        self._outdate(node)
        self._count[kind] = self._count.get(kind, 0) + 1
        if verb in (Verb.CREATE, Verb.UPDATE):
            self._stand(node, node.needs if verb is Verb.CREATE else slots)
        self.graph.waiting.occupy(slots)
        node.op = self.running[op.number] = op
        self._look(node)
        return op

    def _quiet_above(self, node: Node) -> bool:
        """Whether no operation runs on what needs it."""
        if node.busy:
            self.graph.waiting.park(node, node)
            return False
        for choice in self.graph.choices_of(node):
            if choice.busy:
                self.graph.waiting.park(node, choice)
                return False
        return True

    def _is_sure(self, node: Node) -> bool:
        """Whether it, and what it leaves to those who chose it, is there for certain."""
        doubt = self.graph.doubt(node) or self.graph.doubt_beside(node)
        if doubt is not None:
            self.graph.waiting.park(node, doubt)
        return doubt is None

    def _is_settled(self, node: Node) -> bool:
        """Whether what it could be chosen for is not just going."""
        for choice in self.graph.choices_of(node):
            if self.graph.is_going(choice):
                self.graph.waiting.park(node, choice)
                return False
        return True

    def _quiet_below(self, node: Node, slots: Iterable[Slot], verb: Verb) -> bool:
        """Whether what it needs is there, and at rest."""
        for slot in slots:
            if type(slot) is Node and is_still(slot):
                continue
            needed = verb is not Verb.DELETE and slot in node.needs
            if isinstance(slot, Choice):
                quiet = not slot.active and (slot.ready > 0 or not needed)
            elif not needed:
                assert isinstance(slot, Node)
                quiet = slot.op is None and not is_uncertain(slot)
            else:
                assert isinstance(slot, Node)
                quiet = is_at_rest(slot) and (
                    slot.change is Change.NONE
                    or node.family is None
                    or slot not in node.family.parents
                )
            doubt = self.graph.doubt_of(slot) if quiet and needed else None
            if not quiet or doubt is not None:
                self.graph.waiting.park(node, doubt or slot)
                return False
        return True

    # -- going with what one stands on -------------------------------------------------------------

    def _goes_along(self, node: Node) -> bool:
        """Whether it waits to vanish with what it stands on; then it holds that up no more."""
        going = self._going_with(node)
        if going:
            self._retain(node)
            self._released[node] = going
            for choice in going:
                self.graph.unlean(choice)
        return bool(going)

    def _retain_moved(self) -> Iterator[None]:
        """Where what they were to vanish with stays, or fails, they go on their own."""
        for choice in self.graph.moved:
            for node in choice.users:
                if node in self._released and self._released[node] != self._going_with(node):
                    self._retain(node)
                    self._wake(node)
                yield
        yield from self.graph.telling()

    def _going_with(self, node: Node) -> list[Choice]:
        """What it will vanish with; nothing where it has to be taken down."""
        going = [slot for slot in node.leans if not slot.held]
        choices = [slot for slot in going if isinstance(slot, Choice)]
        together = len(choices) == len(going) and all(
            self.graph.goes_along(node, choice) for choice in choices
        )
        return choices if together else []

    # -- how operations ended ----------------------------------------------------------------------

    def done(self, op: Operation, handle: Any = None) -> None:
        """It succeeded. handle: what a created or updated object is called now."""
        node = op.node
        self._end(op)
        if node.trouble is not None:
            node.trouble.uncertain, node.trouble.retry_at = False, None
        if op.verb is Verb.DELETE:
            self._gone(node)
        else:
            node.have, node.handle = op.new, handle
            self._stand(node, op.needs)
            self._compare(node)
        self._settle(op)

    def retrieved(self, op: Operation, seen: Seen | None) -> None:
        """What is there of the object; None: nothing."""
        self._end(op)
        self._see(op.node, seen)
        self._adopt(op.node)
        self._settle(op)

    def failed(self, op: Operation, why: str, now: float, *, permanent: bool = False) -> None:
        """It failed, or was cut off: what was left has to be read, where the kind can."""
        node = op.node
        self._end(op)
        trouble = node.trouble
        if trouble is None:
            trouble = node.trouble = Trouble(op.verb, why)
        trouble.verb, trouble.why = op.verb, why
        trouble.attempts += 1
        if op.kind.can_retrieve:
            trouble.uncertain = True
        else:
            self._undone(op)

        is_final = permanent and node.goal is op.goal  # another one may well succeed
        if op.verb is not Verb.RETRIEVE:
            trouble.permanent = is_final
        if not is_final:
            trouble.retry_at = now + self._delay(trouble.attempts)
            heapq.heappush(self._retries, (trouble.retry_at, op.number, node))
        self._disappointed = True
        self._settle(op)

    def is_outdated(self, op: Operation) -> bool:
        """Whether what it makes is not wanted any more, so that it is of use to cancel it."""
        goal = op.node.goal
        if op.verb not in (Verb.CREATE, Verb.UPDATE) or goal is op.new:
            return False
        return goal is ABSENT or not self._equals(op.node, op.new, goal)

    def cancelled(self, op: Operation) -> None:
        """It was cut off for a newer value: what was left has to be read, where the kind can."""
        self._end(op)
        if op.kind.can_retrieve:
            self._doubt(op.node, op.verb, "cancelled for a newer value")
        else:
            self._undone(op)
        self._disappointed = True
        self._settle(op)

    def refused(self, op: Operation, why: str) -> None:
        """The kind says of the new value, only now, that it is invalid; all is as it was."""
        node = op.node
        self._end(op)
        self._undone(op)
        if node.goal is op.new:
            # what is stored may be invalid already, and this the last value that seemed not to be
            node.problem = node.problem or Problem(why, op.new)
            if op.verb is Verb.CREATE:
                self._aim(node, ABSENT, (), {})
            else:
                self._keep_found(node)
        self._disappointed = True
        self._settle(op)

    def _undone(self, op: Operation) -> None:
        """All is as it was."""
        if op.verb is Verb.CREATE:
            self._gone(op.node)
        else:
            self._stand(op.node, op.leans)
            self._compare(op.node)

    def _settle(self, op: Operation) -> None:
        self.outlook.forget()
        self._wake(op.node)

    def _end(self, op: Operation) -> None:
        """It runs no more: who waited for that has its turn."""
        node = op.node
        del self.running[op.number]
        node.op = None
        self.graph.waiting.release(op.slots)
        self.graph.waiting.unpark(node)
        self._count[op.kind] -= 1

    # -- states ------------------------------------------------------------------------------------

    def _enter(self, node: Node) -> None:
        """Note the state that it is in."""
        old, new = node.state, state_of(node, is_unread=node.kind in self._unread)
        if new is not old:
            assert new in FOLLOWS[old], f"{node.key!r}: from {old} to {new}"
            node.state = new
            self._changes.append(Changed(node.key, old, new))
        if new is None:
            self.graph.drop_unused(node)


def _retries_at(when: float, number: int, node: Node) -> bool:
    """Whether it is still to be tried again then."""
    return node.trouble is not None and node.trouble.retry_at == when
