"""What the methods of kinds give back, held against what they promise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from datasync.reconcile.needs import Needs

__all__ = ["check_needs", "check_parts", "text_of"]


def check_needs(kind: str, key: str, told: object) -> list[Needs]:
    """What `needs` returned. Raises `TypeError`, and `ValueError` for what needs itself."""
    if not isinstance(told, Iterable) or isinstance(told, str | bytes):
        raise TypeError(f"needs() of {kind} returned {told!r}; return an iterable of Needs")
    needs = list(told)
    for need in needs:
        if not isinstance(need, Needs):
            raise TypeError(f"needs() of {kind} returned {need!r}; make it with Needs.key(...)")
        if key in need.keys or (need.prefix is not None and key.startswith(need.prefix)):
            raise ValueError(f"needs itself ({need})")
    return needs


def check_parts(kind: str, key: str, told: object) -> Mapping[str, Any]:
    """What `derive` returned. Raises `TypeError`, and `ValueError` for what derives itself."""
    if not isinstance(told, Mapping):
        raise TypeError(f"derive() of {kind} returned {told!r}; return a mapping of keys to values")
    if key in told:
        raise ValueError("derives itself")
    return told


def text_of(error: BaseException) -> str:
    """What to say of an error that came out of a kind."""
    text = str(error)
    return (
        text
        if isinstance(error, ValueError | LookupError) and text
        else f"{type(error).__name__}: {text}"
    )
