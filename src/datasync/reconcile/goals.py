"""What the objects are to be: the stored values, and what is derived from them."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from datasync.reconcile.facts import (
    forget_family,
    is_known,
    is_stored,
    is_wanted,
    key_of,
    stored_value,
)
from datasync.reconcile.graph import Graph
from datasync.reconcile.operations import Problem
from datasync.reconcile.outlook import Outlook
from datasync.reconcile.rules import Rules
from datasync.reconcile.slots import ABSENT, Change, Choice, Family, Node, Operation, Slot
from datasync.reconcile.told import check_needs, check_parts, text_of

__all__ = ["Goals"]

_DEEPEST = 32
"""Parts of parts: so many below each other."""


class Goals:
    """The part of the planner that knows what is wanted.

    kind_of: the kind of a key, None where there is none.
    """

    def __init__(self, kind_of: Callable[[str], Rules | None]) -> None:
        self._vanished: list[Node] = []
        self.graph = Graph(kind_of, self._wake, self._vanished.append)
        self.outlook = Outlook(self.graph)
        self._dirty: deque[Node] = deque()
        """Those that have something to decide."""
        self._disappointed = False
        """Something that was hoped for may not come after all."""
        self._hopeless: set[Node] = set()
        """Those that have hoped in vain, and are taken down."""
        self._released: dict[Node, list[Choice]] = {}
        """Those that will vanish with what they stand on."""

    def _wake(self, node: Node) -> None:
        if not node.queued:
            node.queued = True
            self._dirty.append(node)

    def put(self, key: str, value: Any) -> None:
        """The store has that value."""
        node = self.graph.node(key)
        if node.family is not None:
            node.family.stored = value
            self._choose(node)
        else:
            self._want_stored(node, value)

    def delete(self, key: str) -> None:
        """The store has no such key."""
        node = self.graph.nodes.get(key)
        if node is None:
            return
        if node.family is not None:
            node.family.stored = ABSENT
            self._choose(node)
        else:
            self._want_stored(node, ABSENT)

    def stored(self) -> list[str]:
        """The keys that the store has, as far as was said."""
        return [key for key, node in self.graph.nodes.items() if is_stored(node)]

    def _want_stored(self, node: Node, value: Any) -> None:
        kind, why = node.kind, None
        if kind is not None and kind.is_derived:
            why = f"stored, and objects of the kind {kind.name} are only derived from others"
        self._want(node, value, why)

    def _want(self, node: Node, value: Any, why: str | None = None) -> None:
        """It is to have that value, unless this is invalid (`why`); ABSENT: it is to go."""
        trouble = node.trouble
        if trouble is not None:
            trouble.attempts, trouble.retry_at, trouble.permanent = 0, None, False
            if not trouble.uncertain:
                node.trouble = None
        node.problem = None
        if value is ABSENT:
            self._aim(node, ABSENT, (), {})
            return

        node.owned = True
        self._stop_leaving(node)
        if why is None:
            try:
                if node.kind is None:
                    raise LookupError("no kind has a prefix of this key")
                node.kind.validate(node.key, value)
                needs, parts = self._relations(node.key, node.kind, value)
            except Exception as error:
                why = text_of(error)
            else:
                self._aim(node, value, needs, parts)
                return
        node.problem = Problem(why, value)
        if node.goal is ABSENT and is_known(node):
            self._keep_found(node)
        self._changed_goal(node)

    def _relations(
        self, key: str, kind: Rules, value: Any
    ) -> tuple[tuple[Slot, ...], Mapping[str, Any]]:
        """What the value needs, and its parts. Raises what is wrong with them."""
        needs = check_needs(kind.name, key, kind.needs(key, value))
        parts = check_parts(kind.name, key, kind.derive(key, value))
        for part in parts:
            if self.graph.kind_of(part) is None:
                raise LookupError(f"derives {part!r}, and no kind has a prefix of that key")
        if parts:
            self._check_line(key, parts)
        return tuple(dict.fromkeys(map(self.graph.slot, needs))), parts

    def _check_line(self, key: str, parts: Collection[str]) -> None:
        """That deriving comes to an end. Raises `ValueError`."""
        line = [key]
        for one in line:  # it grows
            node = self.graph.nodes.get(one)
            if node is not None and node.family is not None:
                line += [parent.key for parent in node.family.parents if parent.key not in line]
            if one in parts:
                raise ValueError(f"derives {one!r}, of which it is a part")
        if len(line) > _DEEPEST:
            raise ValueError(f"derives parts, {_DEEPEST} deep below {line[-1]!r}; there it ends")

    def _keep_found(self, node: Node) -> None:
        """What was found is the last valid value."""
        self._aim(node, node.have, *self._relations_of_found(node))

    def _relations_of_found(self, node: Node) -> tuple[tuple[Slot, ...], Mapping[str, Any]]:
        if node.kind is None:
            return (), {}
        try:
            return self._relations(node.key, node.kind, node.have)
        except Exception:  # it is there, whatever its kind says of it
            return (), {}

    def _aim(
        self, node: Node, goal: Any, needs: tuple[Slot, ...], parts: Mapping[str, Any]
    ) -> None:
        """Set the goal, with what it needs and the parts that come with it."""
        family = node.family
        if family is not None and family.parents and goal is not ABSENT:
            needs = tuple(dict.fromkeys((*needs, *family.parents)))
        if len(needs) == len(node.needs) and all(map(operator.is_, needs, node.needs)):
            needs = node.needs  # so that equal ones are the same
        node.goal = goal
        self._hopeless.discard(node)
        self.graph.rewire(node, needs, node.leans)
        self._compare(node)
        self._changed_goal(node)
        if parts or (family is not None and family.parts):
            self._derive(node, parts)

    def _changed_goal(self, node: Node) -> None:
        self.outlook.forget()
        self._disappointed = True
        self._wake(node)

    def _compare(self, node: Node) -> None:
        """How what is there differs from the goal."""
        if node.problem is not None and node.problem.compared:
            node.problem = None
        if node.have is ABSENT or node.goal is ABSENT:
            node.change = Change.NONE
            return
        if node.have is node.goal:
            node.change = Change.NONE
        else:
            node.change = self._difference(node)
        if node.change is Change.NONE and is_known(node):
            self._stand(node, node.needs)
        elif node.family is not None and node.family.parents:
            # one that is not there yet must not come beside a part that it does not have
            self._stand(node, tuple(dict.fromkeys((*node.leans, *node.family.parents))))

    def _stand(self, node: Node, leans: tuple[Slot, ...]) -> None:
        """That is what it stands on now."""
        if leans is not node.leans:
            self._retain(node)
            self.graph.rewire(node, node.needs, leans)
            if node.op is not None:
                self._occupy(node.op, leans)

    def _occupy(self, op: Operation, slots: tuple[Slot, ...]) -> None:
        """It has turned out that its object stands on these: they must not change, either."""
        self.graph.waiting.occupy(slot for slot in slots if slot not in op.slots)
        op.slots = tuple(dict.fromkeys((*op.slots, *slots)))

    def _difference(self, node: Node) -> Change:
        kind = node.kind
        assert kind is not None
        try:
            if kind.equal(node.key, node.have, node.goal):
                return Change.NONE
            recreate = kind.needs_recreate(node.key, node.have, node.goal)
        except Exception as error:
            node.problem = Problem(text_of(error), node.goal, compared=True)
            return Change.NONE
        return Change.RECREATE if recreate else Change.IN_PLACE

    # -- derived objects ---------------------------------------------------------------------------

    def _derive(self, node: Node, parts: Mapping[str, Any]) -> None:
        """From now on these are its parts."""
        family = self._family(node)
        before, family.parts = family.parts, {}
        for key, value in parts.items():
            part = self.graph.node(key)
            family.parts[part] = value
            self._family(part).parents[node] = value
            self._choose(part)
        for part in before:
            if part not in family.parts:
                assert part.family is not None
                del part.family.parents[node]
                self._choose(part)
                self._let_go(node, part)
        forget_family(node)

    def _family(self, node: Node) -> Family:
        if node.family is None:
            node.family = Family(stored_value(node))
        return node.family

    def _let_go(self, node: Node, part: Node) -> None:
        """What was a part of it goes before it changes, where nobody else asks for it."""
        if node in part.leans and not is_wanted(part):
            self._family(node).leaving[part] = None

    def _stop_leaving(self, part: Node) -> None:
        """It has gone, or stays after all: what waited for that may change."""
        for slot in part.leans:
            if isinstance(slot, Node) and slot.family and part in slot.family.leaving:
                del slot.family.leaving[part]
                forget_family(slot)
                self._disappointed = True  # it is at rest no more
                self._wake(slot)

    def _choose(self, node: Node) -> None:
        """Which of those that ask for an object it is made for."""
        family = node.family
        assert family is not None
        parents = sorted(family.parents, key=key_of)
        stored = family.stored is not ABSENT
        if parents and (stored or len(parents) > 1):
            by = ", ".join(repr(parent.key) for parent in parents)
            why = f"derived from {by}" + (", and stored as well" if stored else "")
            self._want(node, family.parents[parents[0]], why)
        elif parents:
            self._want(node, family.parents[parents[0]])
        else:
            self._want_stored(node, family.stored)
        forget_family(node)

    def _retain(self, node: Node) -> None:
        """It stays, or goes on its own."""
        for choice in self._released.pop(node, ()) if self._released else ():
            self.graph.lean(choice)

    def _gone(self, node: Node) -> None:
        node.have, node.handle, node.change = ABSENT, None, Change.NONE
        self._hopeless.discard(node)
        self._stop_leaving(node)
        self._stand(node, ())
