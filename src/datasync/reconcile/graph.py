"""Who needs what, with the way back.

What changes tells its slots, and these tell those who need them: a change touches nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from datasync.reconcile.facts import has_stuck_parent, is_held_up, is_uncertain
from datasync.reconcile.folders import Folders, prefixes
from datasync.reconcile.needs import Needs
from datasync.reconcile.operations import Verb
from datasync.reconcile.rules import Rules
from datasync.reconcile.slots import (
    ABSENT,
    ACTIVE,
    CHANGES,
    FALLEN,
    HOLDS,
    LOOPED,
    READY,
    SAFE,
    STANDS,
    SURE,
    Choice,
    Keeps,
    Node,
    Slot,
    is_firm,
    is_lasting,
    is_support,
)
from datasync.reconcile.waiting import Waiting

__all__ = ["Graph"]

_AT_ONCE = 100
"""Users that are told of a change at once."""


class Graph:
    """All nodes by key, all choices by need.

    wake: called with each node that has to be looked at, for something that concerns it changed.
    vanished: called with each node that has gone by itself with what it stood on; it must only
        note it.
    """

    def __init__(
        self,
        kind_of: Callable[[str], Rules | None],
        wake: Callable[[Node], None],
        vanished: Callable[[Node], None],
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self.choices: dict[Needs, Choice] = {}
        self.kind_of = kind_of
        self._wake = wake
        self._vanished = vanished
        self._chosen: dict[Node, dict[Choice, None]] = {}
        """The choices that a node is a member of."""
        self._under: dict[str, dict[Choice, None]] = {}
        """The choices by prefix."""
        self._folders: Folders | None = None
        """None until a need asks for a prefix."""
        self.waiting = Waiting(wake)
        self.unheard: dict[Slot, dict[Node, None]] = {}
        """Those who have not heard yet that what they need is met, or no longer."""
        self.moved: dict[Choice, None] = {}
        """The choices with which others go, and of which a member may have changed."""

    # -- nodes and slots ---------------------------------------------------------------------------

    def node(self, key: str) -> Node:
        """The object with that key, made where there is none."""
        node = self.nodes.get(key)
        if node is None:
            node = self.nodes[key] = Node(key, self.kind_of(key))
            if self._folders is not None:
                self._folders.add(node)
                for prefix in prefixes(key):
                    for choice in self._under.get(prefix, ()):
                        self._join(node, choice)
        return node

    def drop_unused(self, node: Node) -> None:
        """Forget an object of which nothing is known, and that nobody needs."""
        if node.is_used or self.nodes.get(node.key) is not node:
            return
        if any(choice.need.keys for choice in self._chosen.get(node, ())):
            return  # it is named there
        del self.nodes[node.key]
        for choice in self._chosen.pop(node, ()):
            choice.members.pop(node)
        self.waiting.forget(node)
        if self._folders is not None:
            self._folders.remove(node.key)

    def slot(self, need: Needs) -> Slot:
        """What is to be leaned on for that need."""
        if need.is_plain:
            key = need.keys[0]
            return self.nodes.get(key) or self.node(key)
        choice = self.choices.get(need)
        if choice is None:
            choice = self.choices[need] = Choice(need)
            if need.prefix is not None:
                if self._folders is None:
                    self._folders = Folders(self.nodes.values())
                for node in list(self._folders.below(need.prefix)):
                    self._join(node, choice)
                self._under.setdefault(need.prefix, {})[choice] = None
            for key in need.keys:
                node = self.node(key)
                # a key that is only to be chosen has no user of its own to keep it
                self._join(node, choice)
        return choice

    def choices_of(self, node: Node) -> Iterable[Choice]:
        """The choices that it is a member of."""
        return self._chosen.get(node, ())

    def members(self, slot: Slot) -> Iterable[Node]:
        """The objects that a slot may be met by."""
        return (slot,) if isinstance(slot, Node) else slot.members  # type: ignore[attr-defined]

    def _join(self, node: Node, choice: Choice) -> None:
        choice.members[node] = 0
        self._chosen.setdefault(node, {})[choice] = None
        self.offer(node)

    def _leave(self, slot: Slot) -> None:
        """Nobody needs it any more."""
        if isinstance(slot, Node):
            self._wake(slot)
            return
        assert isinstance(slot, Choice)
        del self.choices[slot.need]
        self.waiting.forget(slot)
        if slot.need.prefix is not None:
            same = self._under[slot.need.prefix]
            del same[slot]
            if not same:
                del self._under[slot.need.prefix]
        for node in slot.members:
            chosen = self._chosen[node]
            del chosen[slot]
            if not chosen:
                del self._chosen[node]
            self._wake(node)

    # -- who needs what ----------------------------------------------------------------------------

    def rewire(self, node: Node, needs: tuple[Slot, ...], leans: tuple[Slot, ...]) -> None:
        """From now on it needs `needs`, and stands on `leans`."""
        old_needs, old_leans = node.needs, node.leans
        if needs is old_needs and leans is old_leans:
            return
        node.needs, node.leans = needs, leans

        if leans is not old_leans:
            deep = any(type(slot) is Choice or slot.deep for slot in leans)  # type: ignore[attr-defined]
            was_deep, node.deep = node.deep, deep
            if deep and not was_deep:
                self._deepen(node)
            before, after = set(old_leans), set(leans)
            for slot in leans:
                if slot not in before:
                    self.lean(slot)
            for slot in old_leans:
                if slot not in after:
                    self.unlean(slot)

        if needs is old_needs and leans in ((), needs) and old_leans in ((), needs):
            return  # it has come, or gone: what it uses are its needs, before and after
        used = dict.fromkeys((*needs, *leans))
        for slot in used:
            slot.users[node] = None
        for slot in (*old_needs, *old_leans):
            if slot not in used and slot.users.pop(node, _GONE) is not _GONE and not slot.users:
                self._leave(slot)
        if needs is not old_needs:
            node.unmet = sum(not slot.held for slot in needs)
            for users in self.unheard.values():
                users.pop(node, None)

    def _deepen(self, node: Node) -> None:
        """What stands on it stands on a choice now, too."""
        rest = [node]
        while rest:
            slot = rest.pop()
            for user in slot.users:
                if not user.deep and slot in user.leans:
                    user.deep = True
                    self._wake(user)
                    rest.append(user)

    def lean(self, slot: Slot) -> None:
        """One more stands on it."""
        slot.leaning += 1
        if type(slot) is Choice:
            self._recount(slot)

    def unlean(self, slot: Slot) -> None:
        """One less stands on it."""
        slot.leaning -= 1
        if isinstance(slot, Choice):
            self._recount(slot)
            if not slot.leaning:
                self._forget_loops(slot)
        elif not slot.leaning:
            self._wake(slot)  # type: ignore[arg-type]

    def _forget_loops(self, choice: Choice) -> None:
        """Nobody stands on it any more, so that its members cannot stand on those who do."""
        for node, bits in choice.members.items():
            if bits & LOOPED:
                choice.members[node] = bits & ~(LOOPED | FALLEN)
                self._wake(node)

    def hold(self, node: Node, held: bool) -> None:
        """It can, or can no more, be counted on."""
        if node.held is not held:
            node.held = held
            self._tell(node)

    def _tell(self, slot: Slot) -> None:
        """Tell those who need it that it is now met, or no longer; `telling` does where they are
        many."""
        behind = self.unheard.pop(slot, ())
        users = [one for one in slot.users if one not in behind] if behind else slot.users
        if len(users) <= _AT_ONCE:
            self._tell_users(slot, users)
        else:
            self.unheard[slot] = dict.fromkeys(reversed(users))

    def telling(self) -> Iterator[None]:
        """Tell those who have not heard, one after the other."""
        while self.unheard:
            slot, users = next(iter(self.unheard.items()))
            while users:
                user, _ = users.popitem()
                if user in slot.users:
                    self._tell_users(slot, (user,))
                yield
            del self.unheard[slot]

    def _tell_users(self, slot: Slot, users: Iterable[Node]) -> None:
        step, told = (-1, 0) if slot.held else (1, 1)
        for user in users:
            needs, leans = user.needs, user.leans
            if needs is leans or not leans or slot in needs:
                user.unmet += step
            if user.have is not ABSENT or user.unmet == told:
                self._wake(user)

    # -- choices -----------------------------------------------------------------------------------

    def offer(self, node: Node) -> None:
        """Tell its choices how it stands."""
        chosen = self._chosen.get(node)
        if not chosen:
            return
        there, op, uncertain = node.have is not ABSENT, node.op, is_uncertain(node)
        # a part of what failed for good is what it is, and not what it was to become
        updates = node.next is Verb.UPDATE and not has_stuck_parent(node)
        active = uncertain or (op is not None and op.verb in (Verb.UPDATE, Verb.DELETE))
        about = updates and not is_held_up(node)
        newest = node.goal
        if op is not None and op.verb is Verb.UPDATE:
            updates = about = True
            newest = op.new
        stable = op is None and not about and not uncertain

        for choice in chosen:
            bits = 0
            if there:
                now = choice.fits(node.have)
                later = choice.fits(newest) if updates else now
                bits = choice.members[node] & (LOOPED | FALLEN)
                if now:
                    bits |= STANDS
                if node.held and later and (now or about) and not bits & LOOPED:
                    bits |= HOLDS
                    if now and stable:
                        bits |= READY
                changes = choice.need.recreate_on_change and now and (about or not node.held)
                if changes and not (node.deep and self.rests_on(node.leans, choice)):
                    bits |= CHANGES
                if not node.deep:
                    bits |= SAFE
            if active:
                bits |= ACTIVE
            if choice.need.goes_with:
                self.moved[choice] = None
            self._set(choice, node, bits)

    def _set(self, choice: Choice, node: Node, bits: int) -> None:
        old = choice.members[node]
        if old == bits:
            return
        choice.members[node] = bits
        choice.holding += bool(bits & HOLDS) - bool(old & HOLDS)
        was_ready, was_standing, was_active = choice.ready, choice.standing, choice.active
        stay, stayed = choice.must_stay(bits), choice.must_stay(old)
        choice.ready += bool(bits & READY) - bool(old & READY)
        choice.standing += bool(bits & STANDS) - bool(old & STANDS)
        choice.changing += bool(bits & CHANGES) - bool(old & CHANGES)
        choice.active += bool(bits & ACTIVE) - bool(old & ACTIVE)
        choice.firm += is_firm(bits) - is_firm(old)
        choice.safe += (bits & SURE == SURE) - (old & SURE == SURE)
        if stay is not stayed:
            node.blocks += stay - stayed
            self._wake(node)
        if (old & HOLDS and not bits & HOLDS) or (is_support(old) and not is_support(bits)):
            self._drop_loops(choice)
        self._recount(choice)
        if choice.keeps is not Keeps.NONE and bits & STANDS and not old & STANDS:
            self._drop_loops(choice)
        if (choice.ready and not was_ready) or (was_active and not choice.active):
            self.waiting.unpark(choice)
        if was_standing and not choice.standing and choice.need.goes_with:
            for user in choice.users:
                if choice in user.leans:
                    self._vanished(user)

    def _recount(self, choice: Choice) -> None:
        """Whether it is held, and whether its members must stay for those who stand on it."""
        held = choice.holding > 0 and not choice.changing
        if held is not choice.held:
            choice.held = held
            self._tell(choice)
        keeps = Keeps.NONE
        if choice.leaning:
            keeps = Keeps.ALL if not choice.firm else Keeps.CHANGING if choice.changing else keeps
        if keeps is not choice.keeps:
            stayed = {node: choice.must_stay(bits) for node, bits in choice.members.items()}
            choice.keeps = keeps
            for node, bits in choice.members.items():
                stay = choice.must_stay(bits)
                if stay is not stayed[node]:
                    node.blocks += stay - stayed[node]
                    if not node.blocks:
                        self._wake(node)
            if keeps is not Keeps.NONE:
                self._drop_loops(choice)

    def drop_loops(self, choice: Choice) -> None:
        """See whether any of those that it is met by stand on those who chose it."""
        self._drop_loops(choice)
        self._recount(choice)

    def _drop_loops(self, choice: Choice) -> None:
        """A member goes: those that are left must not stand on the ones who would have to stand
        on them."""
        if not choice.leaning or not choice.standing or choice.safe:
            return
        for node in list(choice.members):
            bits = choice.members[node]
            if not is_support(bits) or not self.rests_on(node.leans, choice):
                continue
            if not bits & LOOPED and self._falls_with(node, choice, is_lasting):
                bits = bits & ~(HOLDS | READY) | LOOPED
            if bits & LOOPED and self._falls_with(node, choice, is_support):
                bits |= FALLEN
            self._set(choice, node, bits)

    def stands_again(self, node: Node) -> bool:
        """Whether what it stands on has changed, so that those who chose it may stand on it after
        all."""
        fallen = [choice for choice in self.choices_of(node) if choice.members[node] & FALLEN]
        if not fallen:
            return False
        below = [slot for slot in self.foundations(node.leans) if isinstance(slot, Choice)]
        for _ in below:
            # first what it stands on, for that depends on the same change
            raised = [self._raise(one, choice) for choice in below for one in list(choice.members)]
            if not any(raised):
                break
        raised = [self._raise(node, choice) for choice in fallen]
        return any(raised)

    def _raise(self, node: Node, choice: Choice) -> bool:
        """Whether those who chose it may stand on it again."""
        bits = choice.members[node]
        if not bits & FALLEN or self._has_fallen(node, choice):
            return False
        self._set(choice, node, bits & ~(LOOPED | FALLEN))
        return True

    def _has_fallen(self, node: Node, choice: Choice) -> bool:
        return self.rests_on(node.leans, choice) and self._falls_with(node, choice, is_support)

    def rests_on(self, leans: Iterable[Slot], target: Slot) -> bool:
        """Whether what stands on `leans` may stand, over however many others, on `target`, or on
        one that stands on `target` where that is a choice."""
        below = self.foundations(leans)
        if isinstance(target, Choice):
            return any(_stands_on(slot, target) for slot in below)
        return any(slot is target for slot in below)

    def foundations(self, leans: Iterable[Slot]) -> Iterator[Slot]:
        """These, and all that they may stand on, over however many others."""
        seen: set[Slot] = set()
        rest = list(leans)
        while rest:
            slot = rest.pop()
            if slot in seen:
                continue
            seen.add(slot)
            yield slot
            if isinstance(slot, Choice):
                rest += [node for node, bits in slot.members.items() if bits & STANDS]
            else:
                rest += slot.leans  # type: ignore[attr-defined]

    def changes_under_itself(self, node: Node) -> bool:
        """Whether it stands on one that is to be made again before it changes."""
        return node.deep and any(
            choice.need.recreate_on_change
            and choice.fits(node.have)
            and self.rests_on(node.leans, choice)
            for choice in self.choices_of(node)
        )

    def _falls_with(self, node: Node, choice: Choice, counts: Callable[[int], bool]) -> bool:
        """Whether it has nothing to stand on but those who stand on `choice`.

        counts: which members of other choices can be stood on.
        """
        # all that is below it falls, but for what is seen to stand without them
        below: dict[Slot, Collection[Slot]] = {}
        rest: list[Slot] = [node]
        while rest:
            slot = rest.pop()
            if slot in below or _stands_on(slot, choice):
                continue
            if isinstance(slot, Choice):
                below[slot] = [one for one, bits in slot.members.items() if counts(bits)]
            else:
                below[slot] = slot.leans  # type: ignore[attr-defined]
            rest += below[slot]

        missing: dict[Slot, int] = {}
        users: dict[Slot, list[Slot]] = {}
        stands: set[Slot] = set()
        for slot, its in below.items():
            missing[slot] = 1 if isinstance(slot, Choice) else len(its)
            for one in its:
                users.setdefault(one, []).append(slot)
            if not missing[slot]:
                rest.append(slot)
        while rest:
            slot = rest.pop()
            stands.add(slot)
            for user in users.get(slot, ()):
                missing[user] -= 1
                if not missing[user]:
                    rest.append(user)
        return node not in stands

    def is_leaned_on(self, node: Node) -> bool:
        """Whether anything may stand on it."""
        return bool(node.users) or any(choice.users for choice in self.choices_of(node))

    def goes_along(self, node: Node, choice: Choice) -> bool:
        """Whether one that stands on it vanishes by itself in what is about to happen."""
        if not choice.need.goes_with or choice.holding:
            return False
        if any(map(_may_come, choice.members)):
            return False  # which of the two is first, nobody knows
        below = {one: bits for one, bits in choice.members.items() if bits & STANDS}
        # one that stands on it in turn would wait to vanish with it
        return any(
            is_support(bits) and not self.rests_on(one.leans, node) for one, bits in below.items()
        ) and not any(one.trouble for one in below)

    def is_going(self, choice: Choice) -> bool:
        """Whether what stands on it vanishes by itself in what happens now, or may have, so that
        nothing may come in between."""
        return (
            choice.need.goes_with
            and choice.active > 0
            and choice.standing > 0
            and not any(bits & (STANDS | ACTIVE) == STANDS for bits in choice.members.values())
            and any(_stands_on(user, choice) for user in choice.users)
        )

    def has_others(self, node: Node) -> bool:
        """Whether, for each choice that must not lose it, another one is there for certain, and
        nobody is to be made again before it changes; where it goes, it does not change."""
        return all(
            (not bits & CHANGES or node.next is Verb.DELETE)
            and any(
                is_support(its) and not its & ACTIVE and self.doubt(other) is None
                for other, its in choice.members.items()
                if other is not node
            )
            for choice in self.choices_of(node)
            if choice.must_stay(bits := choice.members[node])
        )

    def doubt(self, node: Node) -> Node | None:
        """One of which nobody knows what is left, and with which it may have gone."""
        if not node.deep:
            return None
        seen = {node}
        rest = [node]
        while rest:
            for slot in rest.pop().leans:
                if not isinstance(slot, Choice) or not slot.need.goes_with:
                    continue
                for one, bits in slot.members.items():
                    if bits & STANDS and one not in seen:
                        if is_uncertain(one):
                            return one
                        seen.add(one)
                        rest.append(one)
        return None

    def doubt_of(self, slot: Slot) -> Node | None:
        """One with which all may have gone that a need is met by."""
        if isinstance(slot, Node):
            return self.doubt(slot)
        assert isinstance(slot, Choice)
        ready = (one for one, bits in slot.members.items() if bits & READY)
        return self._doubt_of_all(ready)

    def doubt_beside(self, node: Node) -> Node | None:
        """One with which all may have gone that are left to those who chose it."""
        for choice in self.choices_of(node):
            if choice.leaning and is_support(choice.members[node]):
                firm = (one for one, bits in choice.members.items() if is_firm(bits))
                doubt = self._doubt_of_all(one for one in firm if one is not node)
                if doubt is not None:
                    return doubt
        return None

    def _doubt_of_all(self, nodes: Iterable[Node]) -> Node | None:
        doubt = None
        for node in nodes:
            doubt = self.doubt(node)
            if doubt is None:
                break
        return doubt


_GONE = object()


def _stands_on(slot: Slot, choice: Choice) -> bool:
    """Whether it is an object that stands on that, and does not only need it."""
    return isinstance(slot, Node) and choice in slot.leans


def _may_come(node: Node) -> bool:
    """Whether it is being made, or may have been."""
    if node.op is not None:
        return node.op.verb is Verb.CREATE
    return node.have is ABSENT and is_uncertain(node)
