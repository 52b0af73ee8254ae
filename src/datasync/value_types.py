"""The types of the values that a watch or a view shows: one for all of them, or by prefix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from datasync.codec import codec_for
from datasync.errors import BadPrefix, UsageError
from datasync.events import Decode
from datasync.keyspace import KeySpace
from datasync.scopes import Scopes

__all__ = ["ValueTypes", "check_shown", "outermost"]


class ValueTypes(msgspec.Struct, frozen=True):
    """Decodes each value by the type of the longest prefix that its key lies in."""

    _dialect: str
    _by_prefix: Mapping[str, Decode[Any]]
    _lengths: Sequence[int]
    """Of these prefixes, the longest first; the last one is "", of all other keys."""

    @classmethod
    def of(
        cls,
        type_: type[Any],
        types: Mapping[str, type[Any]] | None,
        dialect: str,
        space: KeySpace,
    ) -> ValueTypes:
        """What `type=` and `types=` ask for.

        Raises `UsageError`, `BadPrefix`, `BadValue` for what no value can be, `MissingExtra`.
        """
        if types is None:
            types = {}
        if not isinstance(types, Mapping):
            raise UsageError(
                "types= takes types by prefix; write for example "
                "types={'config/interface/': Interface}"
            )
        if types and type_ is not bytes:
            raise UsageError(
                "type= and types= exclude each other; the type of all other keys is that of the "
                "prefix '' in types="
            )
        for prefix in types:
            space.check_prefix(prefix)
        return cls(dialect, {}, ()).adding({"": type_, **types})

    def adding(self, types: Mapping[str, type[Any]]) -> ValueTypes:
        """These, and `types` as well. Raises `BadValue`, `MissingExtra`."""
        added = {prefix: codec_for(type_, self._dialect).decode for prefix, type_ in types.items()}
        by_prefix = {**self._by_prefix, **added}
        return ValueTypes(self._dialect, by_prefix, sorted({*map(len, by_prefix)}, reverse=True))

    @property
    def decode(self) -> Decode[Any]:
        """Makes the value of a key from its bytes."""
        return self._decode if len(self._by_prefix) > 1 else self._by_prefix[""]

    def _decode(self, key: str, raw: bytes) -> Any:
        found = (self._by_prefix.get(key[:length]) for length in self._lengths)
        return next(filter(None, found))(key, raw)


def outermost(prefixes: Iterable[str]) -> list[str]:
    """Those of the prefixes that lie in no other, in order."""
    return list(Scopes(prefixes).minimal())


def check_shown(types: Iterable[str], scopes: Iterable[str], shown_by: str) -> None:
    """Raise `BadPrefix` for a prefix of `types=` under which these scopes have no key at all."""
    shown = Scopes(scopes)
    for prefix in types:
        if prefix not in shown and not any(scope.startswith(prefix) for scope in shown):
            raise BadPrefix(
                f"types= has the prefix {prefix!r}, but {shown_by} shows nothing of it; give it as "
                "a prefix, too, or leave it out"
            )
