"""What the codecs of one type share: they are made once in a process, and pickled by their type."""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["OfType"]


class OfType:
    """A codec of one type. A pickle of it says which, so that another process uses its own."""

    dialect: ClassVar[str] = "json"

    def __init__(self, type_: Any) -> None:
        self._type = type_

    def __reduce__(self) -> tuple[Any, tuple[Any, str]]:
        from datasync.codec import codec_for

        return codec_for, (self._type, self.dialect)
