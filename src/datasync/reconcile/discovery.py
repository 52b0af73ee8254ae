"""What the objects are, as far as it was found: read as a whole, or heard of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from datasync.reconcile.facts import is_uncertain, is_wanted
from datasync.reconcile.goals import Goals
from datasync.reconcile.operations import Seen, Trouble, Verb
from datasync.reconcile.rules import Rules
from datasync.reconcile.slots import ABSENT, Change, Choice, Node

__all__ = ["Discovery"]

_GONE_ALONG = "may have gone with its needs"


class _Newer(msgspec.Struct):
    """What is known better than a reading will show it."""

    keys: set[str]
    kinds: set[Rules] = msgspec.field(default_factory=set)


class Discovery(Goals):
    """The part of the planner that knows what is there."""

    def __init__(self, kind_of: Callable[[str], Rules | None]) -> None:
        super().__init__(kind_of)
        self._unread: dict[Rules, str] = {}
        """Kinds of which nobody knows what is there, and why."""
        self._awaited: set[Rules] = set()
        """Those of them that are about to be read for the first time. Until then nothing changes or
        goes, for something of theirs may stand on it."""
        self._reading: dict[int, _Newer] = {}
        """What is newer than what each reading that is under way will show."""
        self._readings = 0
        self._suspects: dict[Node, None] = {}
        """Those that were found, and not made in order."""

    def unread(self, kind: Rules, why: str) -> None:
        """What there is of that kind is not known; nothing of it is touched before it is."""
        self._unread[kind] = why
        self._awaited.add(kind)
        for node in self.graph.nodes.values():
            if node.kind is kind:
                self._wake(node)

    def still_unread(self, kind: Rules, why: str) -> None:
        """It was tried to read that kind, and the others wait for it no longer; nothing changes
        where it has been read before."""
        if kind in self._unread:
            self._unread[kind] = why
            self._await_no_more(kind)

    def _await_no_more(self, kind: Rules) -> None:
        if kind in self._awaited:
            self._awaited.remove(kind)
            if not self._awaited:
                for node in self.graph.nodes.values():
                    self._wake(node)

    def unread_because(self, node: Node) -> str:
        """What has to be read first, and why it is not; empty where all is known."""
        if node.kind in self._unread:
            return self._unread[node.kind]
        if not self._awaited or node.next not in (Verb.UPDATE, Verb.DELETE):
            return ""
        return f"waits until {', '.join(sorted(kind.name for kind in self._awaited))} could be read"

    def why_unread(self, kind: Rules) -> str:
        """Why nobody knows what there is of that kind; empty where it is known."""
        return self._unread.get(kind, "")

    def begin_reading(self) -> int:
        """What is read from now on may be older than what operations do meanwhile; returns what
        `read` is to be told."""
        self._readings += 1
        self._reading[self._readings] = _Newer(
            {key for key, node in self.graph.nodes.items() if node.op is not None}
        )
        return self._readings

    def end_reading(self, number: int) -> None:
        """Nothing more comes of it."""
        del self._reading[number]

    def read(
        self, number: int, found: Mapping[Rules, Mapping[str, Seen]], *, last: bool = True
    ) -> None:
        """What is there of these kinds, all of it.

        last: whether nothing more comes of that reading; default True.
        """
        for _ in self.reading(number, found):
            pass
        if last:
            self.end_reading(number)

    def reading(self, number: int, found: Mapping[Rules, Mapping[str, Seen]]) -> Iterator[None]:
        """The same one step at a time, and more may come of it; nothing may be told or decided
        before the last step."""
        self._outdate_kinds(number, found)
        known = self._reading[number]
        newer = known.keys
        seen: list[Node] = []
        for kind, things in found.items():
            if kind in known.kinds:
                continue
            for key, thing in things.items():
                if key in newer:
                    continue
                seen.append(self.graph.node(key))
                self._see(seen[-1], thing)
                yield
            for node in list(self.graph.nodes.values()):
                if (
                    node.kind is kind and node.have is not ABSENT
                    and node.key not in things and node.key not in newer
                ):  # fmt: skip
                    self._see(node, None)
                yield
            if self._unread.pop(kind, None) is not None:
                for node in self.graph.nodes.values():
                    if node.kind is kind:
                        self._wake(node)
                self._await_no_more(kind)
        for node in seen:
            self._adopt(node)
            yield
        for node in list(self.graph.nodes.values()):
            self._tie_parts(node)  # of any kind, for its parts may have come with this one
            yield

    def notify(self, key: str, seen: Seen | None) -> None:
        """Somebody says what is there; None: nothing.

        An operation that runs on the object will say it itself.
        """
        node = self.graph.node(key)
        if node.op is not None:
            return
        self._outdate(node)
        self._see(node, seen)
        self._adopt(node)
        self._wake(node)

    def _outdate(self, node: Node) -> None:
        """What is being read may show it as it was."""
        for newer in self._reading.values():
            newer.keys.add(node.key)

    def _outdate_kinds(self, number: int, kinds: Iterable[Rules]) -> None:
        """Readings that began before this one show these kinds as they were."""
        for earlier, newer in self._reading.items():
            if earlier < number:
                newer.kinds.update(kinds)

    def _see(self, node: Node, seen: Seen | None) -> None:
        """Take over what is there of an object."""
        before = node.have
        unsure = node.trouble is not None and node.trouble.uncertain
        if node.trouble is not None:
            node.trouble.uncertain = False
        if seen is None:
            surprise = before is not ABSENT
            self._gone(node)
        else:
            surprise = before is ABSENT or not self._equals(node, before, seen.value)
            if unsure and before is not ABSENT and node.handle != seen.handle:
                self._doubt_users(node)  # it has gone, and somebody has made another
            node.have, node.handle = seen.value, seen.handle
            if not is_wanted(node):
                node.owned = node.owned if before is not ABSENT and not unsure else seen.ours
            if node.problem is not None and node.goal is ABSENT and is_wanted(node):
                self._keep_found(node)
            if surprise and before is not ABSENT and not is_wanted(node):
                self._shake(node)
            self._compare(node)
        if surprise:
            self._disappointed = True
            self._suspects[node] = None
        self.outlook.forget()
        self._wake(node)

    def _equals(self, node: Node, one: Any, other: Any) -> bool:
        if one is other or node.kind is None:
            return one is other
        try:
            return node.kind.equal(node.key, one, other)
        except Exception:
            return False

    def _adopt(self, node: Node) -> None:
        """Know of a found object that is not as it is to be what it stands on, so that it changes,
        or goes, in order."""
        if node.have is ABSENT or node.kind is None:
            return
        if not node.owned:
            self._stand(node, ())  # it is left alone, and holds up nobody
            return
        if is_wanted(node) and node.change is Change.NONE:
            return  # it stands on what it needs
        # what was needed before the value changed counts no more, but a part says not of what it is
        before = [
            slot for slot in node.leans
            if isinstance(slot, Node) and self._is_part(node, slot)
        ]  # fmt: skip
        if not is_wanted(node):
            self._keep_found(node)
            self._aim(node, ABSENT, (), {})
        else:
            if node.family is not None:
                before += node.family.parents
            self._stand(node, self._relations_of_found(node)[0])
        self._stand(node, tuple(dict.fromkeys((*node.leans, *before))))

    def _is_part(self, node: Node, parent: Node) -> bool:
        family = parent.family
        if family is not None and (node in family.parts or node in family.leaving):
            return True
        return node.key in self._relations_of_found(parent)[1]

    def _tie_parts(self, node: Node) -> None:
        """Parts of an object that is to change or to go, which it is to have no more, go first."""
        if node.have is ABSENT or not node.owned or (
            is_wanted(node) and node.change is Change.NONE
        ):  # fmt: skip
            return
        for key in self._relations_of_found(node)[1]:
            part = self.graph.nodes.get(key)
            if part is None or part.have is ABSENT or is_wanted(part):
                continue
            if part.owned:  # else it is left alone, and holds up nobody
                self._stand(part, tuple(dict.fromkeys((*part.leans, node))))
                self._let_go(node, part)

    def _shake(self, node: Node) -> None:
        """It has changed already: those that are to be made again when it does are."""
        for choice in list(self.graph.choices_of(node)):
            if choice.need.recreate_on_change:
                for user in choice.users:
                    if user.have is not ABSENT and user.goal is not ABSENT:
                        user.change = Change.RECREATE
                        self._wake(user)

    def _vanish(self, node: Node) -> None:
        """It has gone by itself, with what it stood on."""
        if node.op is not None or node.have is ABSENT:
            return
        self._outdate(node)
        if node.kind is not None and node.kind.can_retrieve and self._is_unsure(node):
            # something may be left that it stands on, and that nobody knows of
            self._doubt(node, Verb.DELETE, _GONE_ALONG)
        else:
            self._gone(node)
        self._wake(node)

    def _is_unsure(self, node: Node) -> bool:
        """Whether something may be there that it may stand on, and that nobody knows of."""
        for slot in node.leans:
            if self._unread and isinstance(slot, Choice) and slot.need.prefix is not None:
                return True  # what lies under it has no name before it was read
            members = self.graph.members(slot)
            if any(is_uncertain(one) or one.kind in self._unread for one in members):
                return True
        return False

    def _doubt(self, node: Node, verb: Verb, why: str) -> None:
        """It has to be read before anything is done to it."""
        node.trouble = node.trouble or Trouble(verb, why)
        node.trouble.uncertain = True
        self._wake(node)

    def _doubt_users(self, node: Node) -> None:
        """Those that vanish with it may have."""
        for choice in self.graph.choices_of(node):
            if choice.need.goes_with:
                for user in choice.users:
                    readable = user.kind is not None and user.kind.can_retrieve
                    if readable and choice in user.leans and user.op is None:
                        self._doubt(user, Verb.DELETE, _GONE_ALONG)
