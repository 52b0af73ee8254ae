"""What several test files share."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
_numbers = itertools.count()


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Runs a coroutine in an event loop of its own, for at most 60 seconds."""

    def run(main: Coroutine[Any, Any, T]) -> T:
        async def limited() -> T:
            async with asyncio.timeout(60):
                return await main

        return asyncio.run(limited())

    return run


@pytest.fixture
def memory_url() -> str:
    """A memory source that no other test has: several DataSyncs in one test may share it."""
    return f"memory://test-{os.getpid()}-{next(_numbers)}"
