"""Fixtures of the SQLite tests: each test runs with both libraries, and leaves no thread behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from datasync.kvdbsync.sqlite import SqliteSource
from tests.helpers.sqlite.sqlite_tools import DEADLINE

Make = Callable[..., SqliteSource]


@pytest.fixture(params=["apsw", "sqlite3"])
def library(request: pytest.FixtureRequest) -> str:
    """The name of the library to use."""
    name: str = request.param
    if name == "apsw":
        pytest.importorskip("apsw")
    return name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is made."""
    return tmp_path / "store.db"


@pytest.fixture
def make(path: Path, library: str) -> Make:
    """Makes a source on the store of this test."""

    def make(**options: Any) -> SqliteSource:
        return SqliteSource(**{"path": str(path), "library": library, **options})

    return make


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Whatever a test did, all threads of the transport have ended once its sources are closed."""
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + DEADLINE
    while left := [
        t.name
        for t in threading.enumerate()
        if t.name.startswith("datasync-sqlite") and t not in before
    ]:
        assert time.monotonic() < end, f"threads are left: {left}"
        time.sleep(0.005)
