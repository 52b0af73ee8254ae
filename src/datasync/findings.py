"""What is found of a source when it is examined: how it is, and what to change."""

from __future__ import annotations

import enum

import msgspec

__all__ = ["Finding", "Severity", "clock_finding", "size_text"]

_CLOCKS_APART = 2.0
"""Seconds by which two clocks may differ before it is worth mentioning."""


class Severity(enum.Enum):
    """How bad a finding is, the worst last."""

    OK = "ok"
    WARNING = "warning"
    """It works, and something may go wrong with it."""
    ERROR = "error"
    """It does not work."""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that was found.

    about: which part it is about, in a word or two.
    severity: how bad it is.
    text: what was found.
    advice: what to change; empty where nothing is to be done.
    """

    about: str
    severity: Severity
    text: str
    advice: str = ""


def clock_finding(name: str, theirs: float, asked: float, answered: float) -> Finding:
    """How far the clock of a server is from this one's. theirs: its time, in seconds since the
    epoch; asked, answered: when it was asked for, and when the answer came, by this clock."""
    late = theirs - answered if theirs > answered else min(0.0, theirs - asked)
    if abs(late) <= _CLOCKS_APART:
        return Finding("clock", Severity.OK, f"that of {name} agrees with this one's")
    direction = "ahead of" if late > 0 else "behind"
    return Finding(
        "clock",
        Severity.WARNING,
        f"that of {name} is {abs(late):,.0f} s {direction} this one's",
        "have both set by NTP: times in logs and certificates are judged by them",
    )


def size_text(size: float) -> str:
    """A number of bytes as a person says it."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
