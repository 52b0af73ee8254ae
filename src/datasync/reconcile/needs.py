"""What an object needs before it can be applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from datasync.errors import BadKey, BadPrefix, UsageError

__all__ = ["Needs"]

Satisfies = Callable[[Any], bool]


class Needs(msgspec.Struct, frozen=True):
    """One need of an object: a key, any of some keys, or any key under a prefix.

    Made by `Needs.key`, `Needs.any_of` and `Needs.under`. An object is applied once each of its
    needs is met by an object that is applied, or was found and is stored by nobody.
    """

    keys: tuple[str, ...] = ()
    prefix: str | None = None
    satisfies: Satisfies | None = None
    recreate_on_change: bool = False
    goes_with: bool = False

    @classmethod
    def key(
        cls,
        key: str,
        *,
        satisfies: Satisfies | None = None,
        recreate_on_change: bool = False,
        goes_with: bool = False,
    ) -> Needs:
        """The object with that key.

        satisfies: says of its value whether it will do; default None, any will. A function that
            is defined once is cheaper than a lambda made for each object.
        recreate_on_change: take the object that needs it down and make it again when that value
            changes; default False.
        goes_with: whether the object that needs it vanishes by itself with what it needs, so that
            it is not deleted a second time; default False.

        Raises `BadKey`.
        """
        if type(key) is not str or not key:
            raise BadKey(f"Needs.key takes a key, got {key!r}")
        return cls((key,), None, satisfies, recreate_on_change, goes_with)

    @classmethod
    def any_of(
        cls,
        *keys: str,
        satisfies: Satisfies | None = None,
        recreate_on_change: bool = False,
        goes_with: bool = False,
    ) -> Needs:
        """At least one of those objects; for the rest, see `key`.

        Raises `BadKey`, and `UsageError` for no keys at all.
        """
        if not keys:
            raise UsageError("Needs.any_of takes keys; without any, it could never be met")
        for key in keys:
            if type(key) is not str or not key:
                raise BadKey(f"Needs.any_of takes keys, got {key!r}")
        return cls(tuple(dict.fromkeys(keys)), None, satisfies, recreate_on_change, goes_with)

    @classmethod
    def under(
        cls,
        prefix: str,
        *,
        satisfies: Satisfies | None = None,
        recreate_on_change: bool = False,
        goes_with: bool = False,
    ) -> Needs:
        """At least one object under that prefix, which ends in a slash; for the rest, see `key`.

        Raises `BadPrefix`.
        """
        if type(prefix) is not str or not prefix.endswith("/"):
            raise BadPrefix(f"Needs.under takes a prefix that ends in a slash, got {prefix!r}")
        return cls((), prefix, satisfies, recreate_on_change, goes_with)

    @property
    def is_plain(self) -> bool:
        """Whether it is one key, whatever its value."""
        return (
            self.prefix is None
            and len(self.keys) == 1
            and self.satisfies is None
            and not self.recreate_on_change
            and not self.goes_with
        )

    def __str__(self) -> str:
        if self.prefix is not None:
            text = f"any under {self.prefix}"
        elif len(self.keys) > 1:
            text = f"any of {', '.join(self.keys)}"
        else:
            text = self.keys[0]
        return text if self.satisfies is None else f"{text} that satisfies {_name(self.satisfies)}"


def _name(function: Satisfies) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)
