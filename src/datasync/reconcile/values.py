"""The values of objects, as others read them."""

from __future__ import annotations

from datasync.codec import encode
from datasync.errors import BadValue
from datasync.reconcile.slots import ABSENT
from datasync.texts import printable

__all__ = ["encoded", "in_short"]

_LENGTH = 300


def encoded(key: str, value: object) -> bytes | None:
    """A value as JSON, bytes and text as they are; None where there is none."""
    if value is ABSENT:
        return None
    try:
        return encode(key, value, "json")
    except BadValue:  # what only a kind makes, for its derived objects
        return repr(value).encode(errors="replace")


def in_short(key: str, value: object) -> str:
    """The beginning of it, as text; empty where there is none."""
    raw = encoded(key, value) or b""
    text = printable(raw[: 4 * _LENGTH].decode(errors="replace"))
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"
