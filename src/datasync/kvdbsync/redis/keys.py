"""Scopes as Redis has them: patterns to scan by, and prefixes to track."""

from __future__ import annotations

import re
from collections.abc import Sequence

from datasync.scopes import Scopes, is_prefix
from datasync.skipped_keys import SkippedKeys
from datasync.texts import logger

__all__ = [
    "skipped",
    "pattern_of",
    "scan_pattern",
    "single_keys",
    "texts_of",
    "tracked",
    "wanted_of",
]

_MOST_PREFIXES = 32
"""Tracked one by one: each write of anybody is compared with each of them."""

skipped = SkippedKeys(logger("datasync.redis"))


def pattern_of(prefix: str) -> str:
    """The glob that matches what starts with `prefix`."""
    return re.sub(r"([*?\[\]\\^])", r"\\\1", prefix) + "*"


def single_keys(scopes: Sequence[str]) -> list[bytes]:
    """Those of the scopes that are the name of one key."""
    return [scope.encode() for scope in scopes if not is_prefix(scope)]


def scan_pattern(scopes: Sequence[str]) -> str | None:
    """One glob for all prefixes, since scanning goes through the whole store each
    time; None where there are none."""
    prefixes = [scope for scope in scopes if is_prefix(scope)]
    return pattern_of(_common(prefixes)) if prefixes else None


def tracked(scopes: Sequence[str]) -> list[str]:
    """Prefixes that take in all scopes (a single key: its name); none starts with another."""
    kept: list[str] = []
    for scope in sorted(scopes):
        if not kept or not scope.startswith(kept[-1]):
            kept.append(scope)
    return kept if len(kept) <= _MOST_PREFIXES else [_common(kept)]


def _common(texts: Sequence[str]) -> str:
    """What all of them start with."""
    first, last = min(texts), max(texts)
    length = next(
        (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other),
        len(first),
    )
    return first[:length]


def _text_of(key: bytes) -> str | None:
    """The key as text, or None where it is none."""
    return skipped.text_of(key, "Redis")


def texts_of(keys: Sequence[bytes]) -> tuple[Sequence[bytes], Sequence[str]]:
    """The keys that have a name, as they are stored and as text."""
    try:
        if b"" not in keys:
            return keys, [key.decode() for key in keys]
    except UnicodeDecodeError:
        pass
    return _split([(key, text) for key in keys if (text := _text_of(key)) is not None])


def wanted_of(
    keys: Sequence[bytes], scopes: Scopes | None
) -> tuple[Sequence[bytes], Sequence[str]]:
    """The keys that are text and lie in the scopes (None: all do), as they
    are stored and as text."""
    keys, texts = texts_of(keys)
    if scopes is None:
        return keys, texts
    return _split([(key, text) for key, text in zip(keys, texts, strict=True) if text in scopes])


def _split(pairs: Sequence[tuple[bytes, str]]) -> tuple[Sequence[bytes], Sequence[str]]:
    return [key for key, _ in pairs], [text for _, text in pairs]
