"""What the planner asks of a kind: no more than rules, which do no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from datasync.reconcile.needs import Needs

__all__ = ["Rules"]


class Rules(Protocol):
    """The rules of one kind of object.

    What is raised makes the object invalid, with that as the reason.
    """

    @property
    def name(self) -> str:
        """What to call the kind."""
        ...

    @property
    def limit(self) -> int:
        """How many operations may run side by side."""
        ...

    @property
    def is_derived(self) -> bool:
        """Whether its objects are parts of others alone, and never stored."""
        ...

    @property
    def can_retrieve(self) -> bool:
        """Whether it can read what is there; else that is, after a failure, what was there
        before."""
        ...

    def validate(self, key: str, value: Any) -> None:
        """Raise where the value cannot be applied."""
        ...

    def needs(self, key: str, value: Any) -> Iterable[Needs]:
        """What must be there first."""
        ...

    def derive(self, key: str, value: Any) -> Mapping[str, Any]:
        """Parts with a life of their own."""
        ...

    def equal(self, key: str, old: Any, new: Any) -> bool:
        """Whether there is nothing to do between the two."""
        ...

    def needs_recreate(self, key: str, old: Any, new: Any) -> bool:
        """Whether it has to be taken down and made again."""
        ...
