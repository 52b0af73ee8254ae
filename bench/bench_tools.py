"""The command line beside the tools that the stores bring: seconds of the whole process.

`etcdctl` and `sqlite3` are what one would type instead; `json.load` is the least that reading the
file takes in Python. They take turns.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.bench_codec import _interface
from bench.bench_etcd import Raw
from bench.bench_etcd import _server as etcd_server
from bench.left_out import found
from bench.rows import Row

OURS = [sys.executable, "-m", "datasync"]
Measure = Callable[[], float]


def run(quick: bool) -> Iterator[Row]:
    """The rows: loading a file, then the commands against etcd."""
    count, rounds = (1_000, 1) if quick else (100_000, 5)
    values = {f"load/interface/{number:07}": _interface(number) for number in range(count)}
    with tempfile.TemporaryDirectory() as directory:
        yield _loading(Path(directory), values, rounds)
    if found("etcd", "apt-get install etcd-server") and found(
        "etcdctl", "apt-get install etcd-client"
    ):
        yield from _etcd(values, rounds)


def _loading(directory: Path, values: Mapping[str, object], rounds: int) -> Row:
    """One JSON file, on one line, into a new SQLite file."""
    source, table = directory / "keys.json", directory / "keys.csv"
    source.write_text(json.dumps(values))
    with table.open("w", newline="") as file:
        csv.writer(file).writerows((key, json.dumps(value)) for key, value in values.items())
    stores = (directory / f"store{number}.db" for number in range(1_000_000))

    def imported() -> float:
        make = "CREATE TABLE kv(key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID"
        return _elapsed("sqlite3", str(next(stores)), make, ".mode csv", f".import {table} kv")

    others: dict[str, Measure] = {}
    if found("sqlite3", "apt-get install sqlite3"):
        others["sqlite3 .import"] = imported
    reading = "import json, sys; json.load(open(sys.argv[1]))"
    others["json.load"] = lambda: _elapsed(sys.executable, "-c", reading, str(source))
    return _row(
        "load a JSON file into SQLite",
        lambda: _elapsed(*OURS, "load", f"sqlite:///{next(stores)}", str(source)),
        others, rounds, keys=len(values),
    )  # fmt: skip


def _etcd(values: Mapping[str, object], rounds: int) -> Iterator[Row]:
    with etcd_server() as port:
        asyncio.run(_fill(port, [json.dumps(value).encode() for value in values.values()]))
        url = f"etcd://127.0.0.1:{port}"
        theirs = ["etcdctl", f"--endpoints=127.0.0.1:{port}"]
        one = next(iter(values))
        for what, mine, other, case in (
            ("dump from etcd", ["dump", url, "load/"], ["get", "--prefix", "load/"],
             {"keys": len(values)}),
            ("get from etcd", ["get", url, one], ["get", one], {}),
            ("put to etcd", ["put", url, "put/one", "1500"], ["put", "put/one", "1500"], {}),
        ):  # fmt: skip
            yield _row(
                what,
                lambda mine=mine: _elapsed(*OURS, *mine),  # type: ignore[misc]
                {"etcdctl": lambda other=other: _elapsed(*theirs, *other)},  # type: ignore[misc]
                rounds, **case,
            )  # fmt: skip


async def _fill(port: int, values: list[bytes]) -> None:
    client = Raw(port)
    await client.fill(values)
    await client.aclose()


def _row(what: str, ours: Measure, others: dict[str, Measure], rounds: int, **case: int) -> Row:
    """The median of each, in turn."""
    measures = {"": ours, **others}
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            taken[name].append(measure())
    medians = {name: statistics.median(found) for name, found in taken.items()}
    return Row(what=what, unit="s", ours=medians.pop(""), beside=medians, case={**case})


def _elapsed(*command: str) -> float:
    """Seconds from the start of a program to its end."""
    began = time.perf_counter()
    done = subprocess.run(
        command, env=os.environ | {"ETCDCTL_API": "3"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    taken = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()}")
    return taken
