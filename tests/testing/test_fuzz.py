"""A short round of each fuzzer, drawn by one seed; and a fuzzer finds what is planted."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

from datasync.errors import BadStore
from datasync.testing.fuzz.__main__ import main
from datasync.testing.fuzz.door import SECRET, Door, Finding, mutated, typed
from datasync.testing.fuzz.doors import DOORS
from datasync.testing.fuzz.run import Found, attack

pytestmark = pytest.mark.once

CASES = {"url": 300, "files": 1000, "directory": 100, "sqlite": 40, "rest": 150, "grpc": 120}


@pytest.mark.parametrize("door", CASES)
def test_a_short_round_finds_nothing(door: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([door, "--seed", "1", "--minutes", "10", "--cases", str(CASES[door])])
    said = capsys.readouterr().out
    assert code == 0, said
    assert f"{CASES[door]:,} cases, nothing found" in said


async def _index_error(rng: random.Random) -> str:
    return str([1][rng.randrange(3)])


async def _shows_the_secret(_: random.Random) -> str:
    with typed():
        raise BadStore(f"cannot log in with {SECRET}")
    return "done"


async def _logs(_: random.Random) -> str:
    logging.getLogger("datasync.planted").error("it broke")
    return "done"


async def _is_never_waited_for(_: random.Random) -> str:
    asyncio.get_running_loop().call_soon(lambda: 1 // 0)
    await asyncio.sleep(0)
    return "done"


async def _fine(_: random.Random) -> str:
    return "done"


async def _works() -> None:
    pass


async def _broken() -> None:
    raise Finding("nobody answers")


@pytest.mark.parametrize(
    ("door", "text"),
    [
        (Door(_index_error, _works), "IndexError"),
        (Door(_shows_the_secret, _works), "the secret is shown"),
        (Door(_logs, _works), "logged by datasync.planted: it broke"),
        (Door(_is_never_waited_for, _works), "ZeroDivisionError"),
        (Door(_fine, _broken), "it does not work any more"),
    ],
)
def test_what_is_planted_is_found(door: Door, text: str) -> None:
    found: list[Found] = []
    asyncio.run(attack(door, "planted", 1, 0, lambda done: done < 10 and not found, found.append))
    assert text in found[0].text


def test_a_case_is_drawn_by_its_seed_and_number() -> None:
    def drawn(seed: int, first: int, count: int) -> list[float]:
        numbers: list[float] = []

        async def case(rng: random.Random) -> str:
            numbers.append(rng.random())
            return "done"

        asyncio.run(
            attack(Door(case, _works), "it", seed, first, lambda done: done < count, lambda _: None)
        )
        return numbers

    assert drawn(1, 0, 5)[3:] == drawn(1, 3, 2)
    assert drawn(1, 0, 5) != drawn(2, 0, 5)
    assert {mutated(random.Random(n), b"abc", [b"token"]) for n in range(20)} != {b"abc"}


def test_a_door_that_nobody_knows_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cellar"]) == 2
    assert f"name one of: {DOORS[0]}" in capsys.readouterr().err
