"""What the application says about one kind of object."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable, Mapping
from typing import Any, Generic, Literal, TypeVar

import msgspec

from datasync.reconcile.needs import Needs

__all__ = ["Found", "Kind"]

V = TypeVar("V")
H = TypeVar("H")


class Found(msgspec.Struct, Generic[V, H], frozen=True):
    """An object that `Kind.retrieve` has found.

    handle: what the system calls it; given to `update` and `delete`.
    ours: whether the application has made it; None (the default): nobody knows.
    """

    key: str
    value: V
    handle: H
    ours: bool | None = None


class Kind(Generic[V, H]):
    """How objects of one kind are made, changed and taken down; V is the type of their values, H
    that of their handles, None where there are none. `create` and `delete` alone are a complete
    kind; the base is optional.

    `create`, `update`, `delete` and `retrieve` may be plain or async; plain ones run in threads.
    All others are asked often, in the loop: they must not wait for anything.
    """

    limit: int = 16
    """Operations that may run side by side."""
    timeout: float = 30.0
    """Seconds that an async operation has, before it is cancelled and counts as failed. A plain one
    cannot be cancelled: the object is running until it returns. A `retrieve` of all objects that
    takes longer counts as failed in either case."""
    delete_unknown: bool = False
    """Whether objects are taken down that nobody stores, and of which `Found.ours` is None."""
    cancellable: bool = False
    """Whether an async operation that runs is cancelled once the object is to have another value,
    or to go; else that waits until it has ended. What was left is read then; without `retrieve`, it
    must have left all as it was."""
    assume: Literal["absent", "applied"] = "absent"
    """What a kind without `retrieve` takes to be there at the start: nothing, or all that is stored
    then, as it is stored; `update` and `delete` get None as the handle of such."""

    def create(self, key: str, value: V) -> H | Awaitable[H]:
        """Make it; returns its handle, None where it needs none.

        Raise `Refused` for a value that turns out to be invalid, having left all as it was.
        """
        raise NotImplementedError

    def delete(self, key: str, value: V, handle: H) -> Awaitable[None] | None:
        """Take it down."""
        raise NotImplementedError

    def update(self, key: str, old: V, new: V, handle: H) -> H | Awaitable[H]:
        """Change it in place; returns its handle, or None where that has not changed. Without this
        method, objects are taken down and made again, and what needs them around it."""
        raise NotImplementedError

    def retrieve(
        self, expected: Mapping[str, V], keys: Collection[str] | None
    ) -> Iterable[Found[V, H]] | Awaitable[Iterable[Found[V, H]]]:
        """What is there. Without this method `assume` says what is there at the start, and after a
        failure that is what was there before it.

        expected: what is to be there.
        keys: all that is asked for; None for all objects of the kind.
        """
        raise NotImplementedError

    def needs(self, key: str, value: V) -> Iterable[Needs]:
        """What must be there first; by default nothing."""
        return ()

    def derive(self, key: str, value: V) -> Mapping[str, Any]:
        """Parts with a life of their own, each handled by the kind of its prefix; by default
        none."""
        return {}

    def validate(self, key: str, value: V) -> None:
        """Raise for a value that cannot be applied; its text is the reason."""

    def equal(self, key: str, old: V, new: V) -> bool:
        """Whether there is nothing to do; by default whether they are equal."""
        return bool(old == new)

    def needs_recreate(self, key: str, old: V, new: V) -> bool:
        """Whether this change cannot be made in place; by default it can."""
        return False

    def is_permanent(self, error: BaseException) -> bool:
        """Whether it is of no use to try again with the same value; by default it is of use."""
        return False
