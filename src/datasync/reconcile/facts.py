"""What can be said of one object from itself alone."""

from __future__ import annotations

from typing import Any

from datasync.reconcile.operations import Verb
from datasync.reconcile.slots import ABSENT, Change, Node
from datasync.reconcile.states import State

__all__ = [
    "forget_family",
    "has_failed",
    "has_leaving",
    "has_stuck_parent",
    "is_at_rest",
    "is_held_up",
    "is_known",
    "is_right",
    "is_still",
    "is_stored",
    "is_stuck",
    "is_uncertain",
    "is_wanted",
    "key_of",
    "state_of",
    "stored_value",
    "waits",
]


def key_of(node: Node) -> str:
    """For sorting."""
    return node.key


def is_wanted(node: Node) -> bool:
    """Whether anybody asks for it: the store, or an object that derives it."""
    return node.goal is not ABSENT or node.problem is not None


def is_stored(node: Node) -> bool:
    """Whether the store has it."""
    return node.family.stored is not ABSENT if node.family is not None else is_wanted(node)


def stored_value(node: Node) -> Any:
    """What the store has for an object that has no family yet."""
    return node.goal if node.problem is None else node.problem.value


def forget_family(node: Node) -> None:
    """Give up what says no more than the object itself."""
    family = node.family
    if family is not None and not (family.parents or family.parts or family.leaving):
        node.family = None


def has_leaving(node: Node) -> bool:
    """Whether parts have to go before it changes."""
    return node.family is not None and bool(node.family.leaving)


def is_uncertain(node: Node) -> bool:
    """Whether nobody knows what is left of it."""
    return node.trouble is not None and node.trouble.uncertain


def is_known(node: Node) -> bool:
    """Whether it is there for certain, and nothing happens to it."""
    return node.have is not ABSENT and node.op is None and not is_uncertain(node)


def is_right(node: Node) -> bool:
    """Whether it is as it is to be."""
    if node.have is ABSENT:
        return node.goal is ABSENT
    return node.goal is not ABSENT and node.change is Change.NONE


def waits(node: Node) -> bool:
    """Whether it failed, and it is not time to try again."""
    return node.trouble is not None and node.trouble.waits


def is_stuck(node: Node) -> bool:
    """Whether it failed for good, and stays what it is until it is to have another value."""
    return node.trouble is not None and node.trouble.permanent


def has_stuck_parent(node: Node) -> bool:
    """Whether it is a part of something that failed for good, and so says nothing new of it."""
    return node.family is not None and any(map(is_stuck, node.family.parents))


def is_held_up(node: Node) -> bool:
    """Whether it stays as it is for now, though it is to change."""
    return waits(node) or has_leaving(node) or has_stuck_parent(node)


def is_at_rest(node: Node) -> bool:
    """Whether nothing happens to it now, or is about to."""
    if node.op is not None or is_uncertain(node):
        return False
    return node.next is None or (node.next is Verb.UPDATE and is_held_up(node))


def is_still(node: Node) -> bool:
    """Whether nothing at all goes on with it, and it cannot have gone with anything else."""
    return (
        node.op is None
        and node.next is None
        and node.trouble is None
        and node.change is Change.NONE
        and not node.deep
    )


def has_failed(node: Node) -> bool:
    """Whether it failed, and nothing is being done about it."""
    trouble, op = node.trouble, node.op
    if trouble is None or not trouble.attempts or not (trouble.uncertain or trouble.waits):
        return False
    return op is None or op.verb is Verb.RETRIEVE


def state_of(node: Node, *, is_unread: bool) -> State | None:
    """The state that it is in; None for one that is neither stored nor there.

    is_unread: whether nobody knows what there is of its kind.
    """
    there = node.have is not ABSENT
    if node.problem is not None:
        return State.INVALID
    if node.goal is ABSENT:
        if there and not node.owned:
            return State.UNMANAGED
        if not there and node.op is None and node.trouble is None:
            return None
        return State.FAILED if has_failed(node) else State.REMOVING
    if not there and node.unmet and node.op is None and not is_unread:
        return State.PENDING
    if has_failed(node):
        return State.FAILED
    return State.APPLIED if there and node.op is None and not node.next else State.RUNNING
