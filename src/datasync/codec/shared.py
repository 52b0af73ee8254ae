"""What codecs share: those of one type are made once in a process, and pickled by their type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

__all__ = ["UNDECODABLE", "OfType"]

UNDECODABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What msgspec raises for bytes that are not what they should be: not UTF-8, or
nested too deeply, among others."""


class OfType:
    """A codec of one type. A pickle of it says which, so that another process uses its own."""

    dialect: ClassVar[str] = "json"
    found_by: ClassVar[Callable[[Any, str], Any]]
    """Finds the codec of a type and a dialect; set by the code that makes codecs."""

    def __init__(self, type_: Any) -> None:
        self._type = type_

    def __reduce__(self) -> tuple[Any, tuple[Any, str]]:
        return OfType.found_by, (self._type, self.dialect)
