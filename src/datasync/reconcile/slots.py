"""The objects, and what of them can be needed.

What can be needed is a *slot*: an object itself (`Node`, for a need of one key, whatever its
value), or a choice among objects (`Choice`, for all other needs; equal needs share one). A slot
counts, so that to see whether it is met costs nothing.
"""

from __future__ import annotations

import enum
from typing import Any, Final

import msgspec

from datasync.reconcile.needs import Needs
from datasync.reconcile.operations import Problem, Trouble, Verb
from datasync.reconcile.rules import Rules
from datasync.reconcile.states import State

__all__ = [
    "ABSENT",
    "ACTIVE",
    "CHANGES",
    "FALLEN",
    "HOLDS",
    "LOOPED",
    "READY",
    "SAFE",
    "STANDS",
    "SURE",
    "Change",
    "Choice",
    "Family",
    "Keeps",
    "Node",
    "Operation",
    "Slot",
    "is_firm",
    "is_lasting",
    "is_support",
]


class _Absent(enum.Enum):
    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent.ABSENT
"""In place of a value: there is none."""


class Change(enum.Enum):
    """How an object that is there differs from what it is to be."""

    NONE = "none"
    IN_PLACE = "in place"
    RECREATE = "recreate"


class Slot:
    """What can be needed.

    users: those who need it, or stand on it with the value that they have now.
    leaning: how many of them stand on it: they are there, are being made, or may be there.
    busy: on how many of these an operation runs.
    """

    __slots__ = ("busy", "leaning", "users")

    held: bool
    """Whether it is met, and stays so."""

    def __init__(self) -> None:
        self.users: dict[Node, None] = {}
        self.leaning = 0
        self.busy = 0


class Node(Slot):
    """One object, or a key that is needed and where nothing is.

    goal: the value that it is to have.
    have: the value that it has, as far as is known.
    needs, leans: the slots that the goal needs; those that it stands on now.
    unmet: how many of `needs` are not held.
    blocks: how many choices that others stand on have nothing else left.
    deep: whether it stands, over however many others, on a choice.
    """

    __slots__ = (
        "blocks", "change", "deep", "family", "goal", "handle", "have", "held", "key", "kind",
        "leans", "needs", "next", "op", "owned", "problem", "queued", "state", "trouble", "unmet",
    )  # fmt: skip

    def __init__(self, key: str, kind: Rules | None) -> None:
        super().__init__()
        self.key = key
        self.kind = kind
        self.goal: Any = ABSENT
        self.have: Any = ABSENT
        self.handle: Any = None
        self.needs: tuple[Slot, ...] = ()
        self.leans: tuple[Slot, ...] = ()
        self.unmet = 0
        self.blocks = 0
        self.deep = False
        self.held = False
        self.change = Change.NONE
        self.next: Verb | None = None
        self.op: Operation | None = None
        self.owned = False
        self.problem: Problem | None = None
        self.trouble: Trouble | None = None
        self.family: Family | None = None
        self.state: State | None = None
        self.queued = False

    @property
    def is_used(self) -> bool:
        """Whether anything is known of it, so that it must be kept."""
        return (
            bool(self.users)
            or self.have is not ABSENT
            or self.goal is not ABSENT
            or self.op is not None
            or self.problem is not None
            or self.trouble is not None
            or self.family is not None
        )

    def __repr__(self) -> str:
        return f"Node({self.key!r}, {self.state})"


class Operation(msgspec.Struct, eq=False):
    """One thing to do to one object.

    old, handle: what is there, as far as is known; ABSENT and None where nothing is.
    new: what it is to become; ABSENT where it is to go.
    goal: what the object was to be when it began: `new`, but for one that goes to be made again.
    needs, leans: the slots that `new` needs; those that `old` stands on.
    slots: those that must not change meanwhile.
    """

    number: int
    verb: Verb
    key: str
    kind: Rules
    old: Any
    new: Any
    goal: Any
    handle: Any
    node: Node
    needs: tuple[Slot, ...]
    leans: tuple[Slot, ...]
    slots: tuple[Slot, ...]

    def __repr__(self) -> str:
        return f"Operation({self.number}, {self.verb.value} {self.key!r})"


class Family:
    """What an object has to do with derived ones.

    stored: the value that the store has for it.
    parents: the objects that derive it, each with its value.
    parts: those that it derives.
    leaving: those that it derived, and that go before it changes, so that there is never one there
        of which its value says nothing: another process would not know what that stands on.
    """

    __slots__ = ("leaving", "parents", "parts", "stored")

    def __init__(self, stored: Any) -> None:
        self.stored = stored
        self.parents: dict[Node, Any] = {}
        self.parts: dict[Node, Any] = {}
        self.leaving: dict[Node, None] = {}


# what a member does for a choice; a number of bits
HOLDS = 1  # it will do, and stays
READY = 2  # it will do now, and nothing is about to happen to it
STANDS = 4  # those who chose may stand on it
CHANGES = 8  # it is about to change or to go
ACTIVE = 16  # an operation that changes it runs, or nobody knows what one has left
SAFE = 32  # it stands on no choice itself, so it cannot stand on those who chose it
LOOPED = 64  # all that it is to stand on are those who chose it, so that it holds none of them
FALLEN = 128  # all that it stands on already are those who chose it
SURE = HOLDS | SAFE


class Keeps(enum.Enum):
    """Which members of a choice must stay as they are while others stand on it."""

    NONE = "none"
    CHANGING = "changing"
    """Those that are about to change or to go, for what stands on them is made again first."""
    ALL = "all"
    """All that others may stand on, for none of them will last."""


class Choice(Slot):
    """A need that is not simply one key: it is met by any of its members that will do."""

    __slots__ = ("active", "changing", "firm", "held", "holding", "keeps", "members", "need",
                 "ready", "safe", "standing")  # fmt: skip

    def __init__(self, need: Needs) -> None:
        super().__init__()
        self.need = need
        self.members: dict[Node, int] = {}
        self.holding = 0
        self.ready = 0
        self.standing = 0
        self.changing = 0
        self.active = 0
        self.firm = 0
        self.safe = 0
        self.held = False
        self.keeps = Keeps.NONE

    def must_stay(self, bits: int) -> bool:
        """Whether a member for which these bits are set must stay as it is."""
        if self.keeps is Keeps.ALL:
            return is_support(bits)
        return self.keeps is Keeps.CHANGING and bits & CHANGES > 0

    def changers(self) -> list[Node]:
        """Those that are about to change, or to go."""
        return [node for node, bits in self.members.items() if bits & CHANGES]

    def fits(self, value: Any) -> bool:
        """Whether the value will do; a predicate that raises says no."""
        if self.need.satisfies is None:
            return True
        try:
            return bool(self.need.satisfies(value))
        except Exception:
            return False


def is_support(bits: int) -> bool:
    """Whether others may stand on a member for which these bits are set, and not it on them."""
    return bits & (STANDS | FALLEN) == STANDS


def is_firm(bits: int) -> bool:
    """Whether it is a support that stays, for certain, so that others may go."""
    return bits & (HOLDS | STANDS | ACTIVE) == HOLDS | STANDS


def is_lasting(bits: int) -> bool:
    """Whether it is a support, or will be one, that stays."""
    return bits & HOLDS > 0
