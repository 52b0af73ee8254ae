"""The programs in `bench/go/`: built on the spot with the modules that they need, where Go is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from bench.left_out import found, left_out
from bench.machine import ROOT

__all__ = ["built", "seconds"]


def built(name: str) -> Path | None:
    """The program of a folder in `bench/go/`; None, and a word on stderr, where it cannot be built.

    Go builds nothing where nothing has changed since.
    """
    if not found("go", "go.dev/doc/install says how"):
        return None
    binary = ROOT / "build" / "bench" / name
    done = subprocess.run(
        ["go", "build", "-trimpath", "-o", str(binary), "."],
        cwd=ROOT / "bench" / "go" / name, env=os.environ | {"CGO_ENABLED": "0"},
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        left_out(f"bench/go/{name}", f"go build says: {done.stderr.strip().splitlines()[-1]}")
        return None
    return binary


def seconds(binary: Path, *numbers: int) -> float:
    """What a run of it says that it took."""
    command = [str(binary), *map(str, numbers)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
