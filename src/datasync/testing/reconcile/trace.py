"""What happened to objects, as a trace: what was there, and which operations began and ended."""

from __future__ import annotations

from typing import Any

import msgspec

from datasync.reconcile import Needs
from datasync.reconcile.operations import Verb

__all__ = ["Began", "Ended", "Gone", "Known", "Object", "Record", "There"]


class Object(msgspec.Struct, frozen=True, eq=False):
    """A value with what it needs; a part needs what it is a part of, too."""

    value: Any
    needs: tuple[Needs, ...] = ()


class There(msgspec.Struct, frozen=True, eq=False):
    """An object is there, and like that, from now on.

    handle: what the system calls it.
    part_of: the key of the object that it is a part of; default None, it is not a part.
    """

    key: str
    object: Object
    handle: Any = None
    part_of: str | None = None


class Gone(msgspec.Struct, frozen=True, eq=False):
    """An object is not there any more."""

    key: str


class Known(msgspec.Struct, frozen=True, eq=False):
    """Whether the reconciler can know from now on what is there under a prefix; at the beginning
    it can."""

    prefix: str
    is_known: bool


class Began(msgspec.Struct, frozen=True, eq=False):
    """An operation began.

    number: another one for each.
    new: what the object is to become; None where it is to go, or is read.
    old: what it was taken to be; None: absent.
    parts: the keys of the parts that it is to have.
    kind, limit: of its objects; how many operations may run side by side.
    is_blind: whether the kind cannot read what is there.
    """

    number: int
    verb: Verb
    key: str
    new: Object | None = None
    old: Object | None = None
    handle: Any = None
    parts: frozenset[str] = frozenset()
    kind: str = ""
    limit: int | None = None
    is_blind: bool = False

    def __str__(self) -> str:
        return f"{self.verb.value} {self.key}"


class Ended(msgspec.Struct, frozen=True, eq=False):
    """An operation ended. What has become of the object is told before."""

    number: int


Record = There | Gone | Known | Began | Ended
