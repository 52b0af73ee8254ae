"""What becomes of those that wait: whether what they need will come, and if not, why."""

from __future__ import annotations

from collections.abc import Callable, Collection

from datasync.reconcile.facts import is_at_rest
from datasync.reconcile.graph import Graph
from datasync.reconcile.operations import Verb
from datasync.reconcile.slots import ABSENT, Choice, Node, Slot

__all__ = ["Outlook"]

_NAMED = 20
"""Needs that a reason names, at most."""


class Outlook:
    """Asked only; what is found out is kept until something changes.

    To ask for all objects is linear, for what was walked through is not walked through again.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._promised: dict[Node, bool] = {}
        self._held_up: set[Slot] = set()
        """What those stand on who hope."""
        self._cycles: dict[Node, tuple[str, ...]] = {}

    def forget(self) -> None:
        """Something has changed."""
        if self._promised:
            self._promised = {}
        if self._held_up:
            self._held_up = set()
        if self._cycles:
            self._cycles = {}

    # -- whether it comes --------------------------------------------------------------------------

    def in_vain(self, hoping: Collection[Node]) -> list[Node]:
        """Those of the objects that wait for something that does not come by itself, or only when
        they have gone."""
        self.forget()
        self._held_up = set(self._graph.foundations(slot for node in hoping for slot in node.leans))
        return [
            node for node in hoping if not all(self._promises(slot, node) for slot in node.needs)
        ]

    def _promises(self, slot: Slot, user: Node) -> bool:
        """Whether that need is met, or will be by itself, if nothing fails."""
        if isinstance(slot, Node):
            is_parent = user.family is not None and slot in user.family.parents
            return self.comes(slot) or (slot.held and is_at_rest(slot) and not is_parent)
        assert isinstance(slot, Choice)
        return _will_be_met(slot, self.comes, slot.ready)

    def comes(self, node: Node) -> bool:
        """Whether the object is there to stay, or will be, if nothing fails."""
        known = self._promised
        rest: list[tuple[Node, bool]] = [(node, False)]
        while rest:
            one, walked = rest.pop()
            if walked:
                known[one] = all(self._kept(slot) for slot in one.needs)
            elif one not in known:
                settled = self._comes_alone(one)
                # False, too, for one that would wait for itself
                known[one] = bool(settled)
                if settled is None:
                    rest.append((one, True))
                    for slot in one.needs:
                        rest += [
                            (below, False)
                            for below in self._graph.members(slot)
                            if below not in known
                        ]
        return known[node]

    def _kept(self, slot: Slot) -> bool:
        known = self._promised
        if isinstance(slot, Node):
            return known[slot]
        assert isinstance(slot, Choice)
        # what is ready now may hope itself, for what is asked about here
        return _will_be_met(slot, known.__getitem__)

    def _comes_alone(self, node: Node) -> bool | None:
        """Whether it comes, as far as it depends on itself; None: if all that it needs does."""
        if node.op is not None:
            if node.op.verb not in (Verb.CREATE, Verb.UPDATE) or node.op.new is not node.goal:
                return False
            return None if node.unmet else True  # what it needs may go while it is made
        if node.trouble is not None:
            return False
        if node.have is not ABSENT:
            if not node.held or (node.next is Verb.UPDATE and self._waits_for_them(node)):
                return False
            return None  # what it stands on may hope, and for this
        if node.goal is ABSENT or node.problem is not None or node.leaning:
            return False
        return None if node.needs else True

    def _waits_for_them(self, node: Node) -> bool:
        """Whether it changes only when something has gone that those hold up who hope."""
        graph, held_up = self._graph, self._held_up
        return any(
            choice in held_up
            for choice in graph.choices_of(node)
            if choice.must_stay(choice.members[node])
        ) or (node.family is not None and not held_up.isdisjoint(node.family.leaving))

    # -- why it does not ---------------------------------------------------------------------------

    def unmet(self, node: Node) -> list[str]:
        """What it waits for."""
        missing = []
        for slot in node.needs:
            if not slot.held:
                missing.append(slot.key if isinstance(slot, Node) else str(slot.need))  # type: ignore[attr-defined]
                if len(missing) == _NAMED:
                    break
        return missing

    def cycle(self, node: Node) -> tuple[str, ...]:
        """The keys of a cycle of needs that it is part of, beginning with its own; else nothing."""
        if node not in self._cycles:
            self._find_cycles(node)
        return self._cycles[node]

    def _find_cycles(self, start: Node) -> None:
        """Tarjan's strongly connected components, over what waits; without recursion."""
        index: dict[Node, int] = {}
        low: dict[Node, int] = {}
        stack: list[Node] = []
        on_stack: set[Node] = set()
        work = [(start, iter(self._waited_for(start)))]
        index[start] = low[start] = 0
        stack.append(start)
        on_stack.add(start)
        while work:
            node, below = work[-1]
            for one in below:
                if one in self._cycles:
                    continue
                if one not in index:
                    index[one] = low[one] = len(index)
                    stack.append(one)
                    on_stack.add(one)
                    work.append((one, iter(self._waited_for(one))))
                    break
                if one in on_stack:
                    low[node] = min(low[node], index[one])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    members: dict[Node, None] = {}
                    while node not in members:
                        one = stack.pop()
                        on_stack.discard(one)
                        members[one] = None
                    self._name(members)

    def _name(self, members: dict[Node, None]) -> None:
        """Find one way around for each of those that are all on a way to each other."""
        if len(members) == 1:
            self._cycles.update(dict.fromkeys(members, ()))
            return
        for node in members:
            if node in self._cycles:
                continue
            # walk on until the way meets itself
            way: dict[Node, int] = {}
            one = node
            while one not in way and one not in self._cycles:
                way[one] = len(way)
                one = next(below for below in self._waited_for(one) if below in members)
            ring = list(way)[way[one] :] if one in way else []
            for number, member in enumerate(ring):
                self._cycles[member] = tuple(n.key for n in ring[number:] + ring[:number])
            for member in way:
                if member not in self._cycles:
                    self._cycles[member] = self._cycles[one]

    def _waited_for(self, node: Node) -> list[Node]:
        if node.have is not ABSENT or node.goal is ABSENT:
            return []
        return [
            below
            for slot in node.needs
            if not slot.held
            for below in self._graph.members(slot)
            if below.goal is not ABSENT and below.have is ABSENT
        ]


def _will_be_met(choice: Choice, comes: Callable[[Node], bool], ready: int = 0) -> bool:
    """Whether one of its members will do, once those have changed that are about to."""
    if choice.changing and not all(map(comes, choice.changers())):
        return False
    return ready > 0 or any(
        comes(node) for node in choice.members if node.goal is not ABSENT and choice.fits(node.goal)
    )
