"""What can be done to an object, and what is remembered of how that went."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from datasync.reconcile.states import State

__all__ = ["Changed", "Problem", "Seen", "Trouble", "Verb"]


class Verb(enum.Enum):
    """What an operation does to its object."""

    __hash__ = object.__hash__  # that of Enum is written in Python

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    RETRIEVE = "retrieve"


class Seen(msgspec.Struct, frozen=True):
    """An object as it was read.

    ours: whether it may be taken down where nobody stores it.
    """

    value: Any
    handle: Any = None
    ours: bool = True


class Changed(msgspec.Struct, frozen=True):
    """An object that has come into another state; None is that of one that is neither stored nor
    there."""

    key: str
    old: State | None
    new: State | None


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with a stored value.

    compared: whether it only cannot be compared with what is there now.
    """

    why: str
    value: Any
    compared: bool = False


class Trouble(msgspec.Struct):
    """What failed at an object, until it is as it should be.

    verb, why: the operation, and what it failed with.
    attempts: how many have failed.
    retry_at: when to try again; None: now.
    permanent: not before it is to have another value.
    uncertain: nobody knows what was left; it has to be read first.
    """

    verb: Verb
    why: str
    attempts: int = 0
    retry_at: float | None = None
    permanent: bool = False
    uncertain: bool = False

    @property
    def waits(self) -> bool:
        """Whether its time has not come."""
        return self.permanent or self.retry_at is not None
