"""What chaos is done to: a real server, what can go wrong with it, and what it
says itself of what happened."""

from __future__ import annotations

import abc
import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from datasync.source import Item
from datasync.testing.chaos.process import Process
from datasync.testing.chaos.proxy import TcpProxy

__all__ = ["Begin", "Fault", "Log", "Proxied", "Store", "line_faults", "process_faults"]

Log = Sequence[tuple[int, Mapping[str, bytes | None]]]
"""Transactions in their order: the revision (0 where there are none), and
each key with its new value."""


class Begin(NamedTuple):
    """Where a history, or a round, begins: its name as the source calls it ("":
    not known), and what is there."""

    history: str
    revision: int
    items: Sequence[Item]


class Fault(NamedTuple):
    """Something that goes wrong for some seconds and is put right again, also when it is cancelled.

    Faults of one lane come one after another, those of different lanes at the same time.
    """

    lane: str
    weight: int
    run: Callable[[random.Random, float], Awaitable[None]]


class Store(abc.ABC):
    """A server that chaos starts, breaks and ends. `url` leads to it through the
    faults, `direct` past them."""

    url: str
    direct: str
    singly: bool = False
    """Whether keys are to be written one by one: its own account does not tell transactions."""
    agents: bool = False
    """Whether agents that are other processes report there."""
    version: str
    """What it is, for people."""
    faults: Mapping[str, Fault]
    renewals: Mapping[str, Callable[[], Awaitable[object]]]
    """By name: what makes the store begin another history. Nobody writes meanwhile."""
    left_out: Mapping[str, str]
    """Faults that cannot be had here, and why."""
    logs: Sequence[Path] = ()
    """What its servers say, in files that end with it."""

    @abc.abstractmethod
    async def start(self) -> None:
        """Start it, empty. Raises `Missing`."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """End all processes, and remove what they kept."""

    @abc.abstractmethod
    async def part(self) -> None:
        """Break the way of `url`: nothing more comes through."""

    @abc.abstractmethod
    async def rejoin(self) -> None:
        """Have it lead there again, and let whatever else writes go on.
        Nothing happens where all is well."""

    async def hush(self) -> None:  # noqa: B027 - mostly nobody does
        """End what else writes."""

    @abc.abstractmethod
    async def begin(self) -> Begin:
        """What there is now; `log` goes on from here."""

    @abc.abstractmethod
    async def log(self) -> Log:
        """What was committed since `begin` or the last call, by the store's own account."""

    @abc.abstractmethod
    async def state(self) -> tuple[Mapping[str, bytes], int]:
        """Every key with its value, and the newest revision."""


class Proxied(Store):
    """A store whose `url` leads through a proxy."""

    proxy: TcpProxy

    async def part(self) -> None:
        await self.proxy.refuse()

    async def rejoin(self) -> None:
        await self.proxy.start()


def line_faults(proxy: TcpProxy) -> dict[str, Fault]:
    """What can happen to the line that a proxy is."""

    async def cut(rng: random.Random, seconds: float) -> None:
        for _ in range(rng.choice([1, 1, 2, 5])):
            proxy.cut()
            await asyncio.sleep(rng.random() * 0.2)

    async def cut_within(rng: random.Random, seconds: float) -> None:
        proxy.cut_at(rng.randint(1, 40))
        try:
            await asyncio.sleep(seconds)
        finally:
            proxy.cut_at(None)

    async def outage(rng: random.Random, seconds: float) -> None:
        await proxy.refuse()
        try:
            await asyncio.sleep(seconds)
        finally:
            await proxy.start()

    async def half_open(rng: random.Random, seconds: float) -> None:
        proxy.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            proxy.resume()

    async def latency(rng: random.Random, seconds: float) -> None:
        proxy.latency = rng.choice([0.01, 0.04, 0.15])
        try:
            await asyncio.sleep(seconds)
        finally:
            proxy.latency = 0.0

    async def bandwidth(rng: random.Random, seconds: float) -> None:
        proxy.rate = rng.choice([20_000, 200_000])
        try:
            await asyncio.sleep(seconds)
        finally:
            proxy.rate = None

    return {
        "cut": Fault("line", 3, cut),
        "cut within": Fault("line", 3, cut_within),
        "outage": Fault("line", 2, outage),
        "half-open": Fault("line", 2, half_open),
        "latency": Fault("line", 2, latency),
        "bandwidth": Fault("line", 1, bandwidth),
    }


def process_faults(process: Process) -> dict[str, Fault]:
    """What can happen to a server process."""

    async def kill(rng: random.Random, seconds: float) -> None:
        await process.kill()
        try:
            await asyncio.sleep(rng.choice([0.0, seconds]))
        finally:
            await process.start()

    async def stop(rng: random.Random, seconds: float) -> None:
        await process.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            process.resume()

    return {"kill -9": Fault("server", 2, kill), "SIGSTOP": Fault("server", 2, stop)}
