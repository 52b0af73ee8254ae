"""What figures were taken on: without it they say nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import msgspec

__all__ = ["Machine", "revision", "this_machine"]

ROOT = Path(__file__).parent.parent

_SERVERS = {
    "etcd": ["etcd", "--version"],
    "redis-server": ["redis-server", "--version"],
    "sqlite3": ["sqlite3", "--version"],
    "go": ["go", "version"],
}
_YARDSTICKS = ("confluent-kafka", "valkey-glide", "redis", "pydantic", "starlette")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine, its Python and what is installed.

    build: how Python was compiled: with PGO and LTO it is about 1.25 times as fast
    versions: of libraries and servers, by name
    """

    system: str
    processor: str
    cores: int
    python: str
    build: str
    versions: dict[str, str]


def this_machine() -> Machine:
    """The machine that this runs on."""
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        build=_build(sysconfig.get_config_var("CONFIG_ARGS") or ""),
        versions={**_libraries(), **_servers()},
    )


def revision(root: Path = ROOT) -> str:
    """The commit that is checked out, and whether something differs from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        cwd=root, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown"
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _build(arguments: str) -> str:
    """In words, from what Python's configure was called with."""
    pgo = "with PGO" if "--enable-optimizations" in arguments else "without PGO"
    lto = "with LTO" if "--with-lto" in arguments else "without LTO"
    return f"{pgo}, {lto}"


def _libraries() -> dict[str, str]:
    required = importlib.metadata.requires("datasync") or []
    names = {re.split(r"[^\w.-]", one, maxsplit=1)[0].lower() for one in required}
    versions = {}
    for name in sorted({*names, *_YARDSTICKS} - {"datasync"}):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _servers() -> dict[str, str]:
    versions = {}
    for name, command in _SERVERS.items():
        if shutil.which(command[0]) is not None:
            said = subprocess.run(command, capture_output=True, text=True).stdout
            found = re.search(r"\d+\.\d+(\.\d+)?", said)
            versions[name] = found[0] if found else "unknown"
    return versions
