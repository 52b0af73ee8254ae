"""Ending tasks: cancelled and awaited, even if the waiting task is
cancelled; and what they failed with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

__all__ = ["end_tasks", "raise_first", "see_out", "untrace"]


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until they have ended, even if this is cancelled
    meanwhile: their ends are bounded."""
    for task in tasks:
        task.cancel()
    await see_out(*tasks)


async def see_out(*tasks: asyncio.Task[Any]) -> None:
    """Wait until the tasks, whose ends are bounded, have ended, even if
    this is cancelled meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            # an error whose own traceback leads to it lives until the next garbage collection
            del cancelled


def raise_first(ends: Iterable[asyncio.Future[Any]]) -> None:
    """Raise what the first of those failed with that has failed; of the others nobody hears."""
    failed = [
        error for end in ends if end.done() and not end.cancelled() and (error := end.exception())
    ]
    try:
        for error in failed[1:]:
            if error is not failed[0]:
                untrace(error)
        if failed:
            raise failed[0]
    finally:
        del ends, failed  # what is raised here would lead to them by its traceback


def untrace(error: BaseException) -> None:
    """Let go of the frames that an error, and whatever it came from, went through.

    G9: these hold the session, and libraries keep such errors in what the frames lead to: all of
    that would live until the next garbage collection.
    """
    seen: dict[int, BaseException] = {}
    rest: list[BaseException | None] = [error]
    while rest:
        one = rest.pop()
        if one is not None and id(one) not in seen:
            seen[id(one)] = one
            one.__traceback__ = None
            rest += [one.__cause__, one.__context__]
            if isinstance(one, BaseExceptionGroup):
                rest += one.exceptions
