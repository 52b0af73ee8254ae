"""When and where a DataSync can be used."""

from __future__ import annotations

import asyncio

import pytest

from datasync.errors import UsageError, WatchClosed, WrongLoop
from datasync.lifetime import Lifetime


def test_before_the_start_only_what_needs_no_loop_can_be_done() -> None:
    life = Lifetime()
    life.check_open()
    with pytest.raises(UsageError, match="is not started"):
        life.check()


def test_it_begins_once() -> None:
    async def main() -> None:
        life = Lifetime()
        life.begin()
        life.check()
        with pytest.raises(UsageError, match="is started once"):
            life.begin()

    asyncio.run(main())


def test_it_belongs_to_the_loop_that_it_began_in() -> None:
    async def begin() -> Lifetime:
        life = Lifetime()
        life.begin()
        return life

    async def use(life: Lifetime) -> None:
        with pytest.raises(WrongLoop):
            life.check()

    life = asyncio.run(begin())
    for use_it in (life.check, life.check_open, life.end):  # in no loop
        with pytest.raises(WrongLoop):
            use_it()
    asyncio.run(use(life))
    assert not life.closed


def test_behind_its_end_nothing_can_be_done() -> None:
    async def main(life: Lifetime) -> None:
        life.begin()
        life.end()
        for use in (life.check, life.check_open):
            with pytest.raises(WatchClosed, match="has been closed"):
                use()

    asyncio.run(main(Lifetime()))
    never_started = Lifetime()
    never_started.end()
    for use in (never_started.check_open, never_started.begin):
        with pytest.raises(WatchClosed):
            use()
