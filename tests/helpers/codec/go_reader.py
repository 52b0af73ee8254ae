"""The Go program that reads what is written here."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.servers import Announce, built, quietly

__all__ = ["go_reader"]


def go_reader(announce: Announce = quietly) -> str:
    """The path of the program; skips or fails the test where it cannot be built."""
    return built(Path(__file__).parent / "go", "codec/dialect", announce)
