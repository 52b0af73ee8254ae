"""The end of a session, whatever it does then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from datasync.frames import Frame
from datasync.source import Session
from datasync.syncbase.line import Line, break_off, text_of

Run = Callable[[Coroutine[Any, Any, None]], None]


class Hanging(Session):
    """Brings nothing, and does not close."""

    closing = False

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        await asyncio.Event().wait()
        yield []

    async def aclose(self) -> None:
        self.closing = True
        await asyncio.Event().wait()


async def take(session: Session) -> None:
    async for _ in session:
        pass


def test_a_session_that_does_not_close_is_left_to_itself(run: Run) -> None:
    async def main() -> None:
        session = Hanging()
        line = Line(session, lambda frame: None)
        taking = line.taking = asyncio.ensure_future(take(session))
        await line.aclose(0.01)
        assert (session.closing, taking.cancelled(), line.ended.done()) == (True, True, True)

    run(main())


def test_the_first_error_is_what_it_ends_with(run: Run) -> None:
    async def main() -> None:
        line = Line(Hanging(), lambda frame: None)
        first = RuntimeError("first")
        break_off(line.broken, first)
        break_off(line.broken, RuntimeError("second"))
        assert line.broken.exception() is first

    run(main())


def test_an_error_that_cannot_be_shown_as_text_is_named() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert [text_of(Mute()), text_of(KeyError()), text_of(ValueError("no"))] == [
        "Mute",
        "KeyError",
        "no",
    ]
