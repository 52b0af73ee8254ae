"""What is fuzzed: a door, through which something hostile may come, and what may come out of it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from datasync.errors import DataSyncError

__all__ = ["SECRET", "Door", "Finding", "Outcome", "first_of", "mutated", "told", "typed"]

SECRET = "hunter2"  # noqa: S105
"""Stands where a URL has a password; no error shows it."""
_ODD = (0, 1, 0x7F, 0x80, 0xC0, 0xFE, 0xFF)


class Finding(Exception):
    """What should not be."""


class Door(NamedTuple):
    """case: one attack, drawn from the random numbers; it returns what came of it in a word, and
    raises where that should not be. works: a good request is still answered as it should be."""

    case: Callable[[random.Random], Awaitable[str]]
    works: Callable[[], Awaitable[None]]


class Outcome:
    """What came of something: the name of an error of ours, or "done"."""

    def __init__(self) -> None:
        self.name = "done"


@contextlib.contextmanager
def typed(kind: type[DataSyncError] = DataSyncError) -> Iterator[Outcome]:
    """Only errors of ours come out of the block: of that kind, printable,
    and without the secret."""
    outcome = Outcome()
    try:
        yield outcome
    except kind as error:
        outcome.name = type(error).__name__
        told(str(error))


def first_of(names: Iterable[str]) -> str:
    """The first of several outcomes that is not "done", if there is one."""
    return next((name for name in names if name != "done"), "done")


def told(text: str) -> None:
    """Raise `Finding` where a text that people see is not printable, or shows the secret."""
    if SECRET in text:
        raise Finding(f"the secret is shown: {text!r}")
    if not text.isprintable():
        raise Finding(f"an error is not printable: {text!r}")


def mutated(rng: random.Random, data: bytes, tokens: Sequence[bytes] = ()) -> bytes:
    """The same bytes, damaged in a few places. tokens: what means something there."""
    made = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at = rng.randrange(len(made) + 1)
        end = min(len(made), at + rng.choice([1, 1, 2, 4, 8, 100]))

        match rng.randrange(9):
            case 0 if at < len(made):
                made[at] ^= 1 << rng.randrange(8)
            case 1:
                made[at:end] = bytes(rng.choice(_ODD) for _ in range(end - at))
            case 2:
                del made[at:end]
            case 3:
                made[at:at] = made[at:end] * rng.choice([1, 1, 2, 100])
            case 4:
                made[at:at] = rng.randbytes(rng.choice([1, 2, 4, 8]))
            case 5:
                other = rng.randrange(len(made) + 1)
                made[at:end] = made[other : other + end - at]
            case 6 if rng.random() < 0.2:
                del made[at:]
            case 7 if tokens:
                made[at:end] = rng.choice(tokens)
            case _ if tokens:
                made[at:at] = rng.choice(tokens)
            case _:
                pass

    return bytes(made)
