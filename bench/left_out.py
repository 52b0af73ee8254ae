"""What is not measured because the machine lacks it: said once, and no reason to fail."""

from __future__ import annotations

import shutil
import sys

__all__ = ["left_out", "found"]


def left_out(what: str, why: str) -> None:
    """A word on stderr."""
    print(f"{what} is left out: {why}", file=sys.stderr, flush=True)


def found(program: str, install: str) -> bool:
    """Whether a program is installed; where it is not, that is said, with what brings it."""
    there = shutil.which(program) is not None
    if not there:
        left_out(program, f"it is not installed; {install}")
    return there
