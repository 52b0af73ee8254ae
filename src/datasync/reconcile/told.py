"""What the methods of kinds give back, held against what they promise."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from datasync.reconcile.kind import Found
from datasync.reconcile.needs import Needs
from datasync.reconcile.rules import Rules

__all__ = ["check_found", "check_handle", "check_kind", "check_needs", "check_parts", "text_of"]


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


def check_found(
    kind: str, prefix: str, keys: Collection[str] | None, told: object
) -> dict[str, Found[Any, Any]]:
    """What `retrieve` returned, by key. Raises `TypeError`, and `ValueError` for keys that are not
    of the kind, were not asked for, or come twice."""
    if not isinstance(told, Iterable) or isinstance(told, str | bytes):
        raise TypeError(f"retrieve() of {kind} returned {told!r}; return an iterable of Found")
    found: dict[str, Found[Any, Any]] = {}
    for one in told:
        if not isinstance(one, Found):
            raise TypeError(f"retrieve() of {kind} returned {one!r}; return Found")
        if not one.key.startswith(prefix):
            raise ValueError(f"retrieve() of {kind} found {one.key!r}, which is not under {prefix}")
        if one.key in found:
            raise ValueError(f"retrieve() of {kind} found {one.key!r} twice")
        if keys is None or one.key in keys:
            found[one.key] = one
    return found


def check_kind(asked: Rules, key: str, kind: Rules | None) -> None:
    """That an object which `asked` has found is of that kind. Raises `ValueError`."""
    if kind is not asked:
        name = "no kind" if kind is None else f"the kind {kind.name}"
        raise ValueError(f"retrieve() of {asked.name} found {key!r}, which is of {name}")


def check_handle(kind: str, promised: type[Any] | None, told: object) -> None:
    """What `create` returned. Raises `TypeError` for nothing where the kind has promised a handle,
    as `Kind[Interface, int]` does."""
    if told is None and promised is not None:
        raise TypeError(f"create() of {kind} returned None; its handles are {promised.__name__}")


def text_of(error: BaseException) -> str:
    """What to say of an error that came out of a kind."""
    text = str(error)
    return (
        text
        if isinstance(error, ValueError | LookupError) and text
        else f"{type(error).__name__}: {text}"
    )
