"""Ports for servers: no two processes are given the same one, though neither listens yet."""

from __future__ import annotations

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from datasync.testing.chaos.ports import free_ports

_ASKED = (
    "from datasync.testing.chaos.ports import free_ports; print(*free_ports(60), "
    "flush=True); input()"
)


def test_they_are_different_and_nobody_listens_on_them() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    with socket.create_server(("127.0.0.1", ports[0])):
        pass
    assert not set(ports) & set(free_ports(20))


def test_one_that_somebody_listens_on_is_passed_over() -> None:
    [port] = free_ports(1)
    given: list[int] = []
    with socket.create_server(("127.0.0.1", port)):
        while len(given) < 400:  # twice round
            given += free_ports(20)
    assert port not in given


def test_processes_that_ask_at_the_same_time_are_given_different_ones() -> None:
    def ask(_: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", _ASKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )  # fmt: skip

    with ThreadPoolExecutor(4) as pool:
        processes = list(pool.map(ask, range(4)))
    given = [
        port
        for process in processes
        if process.stdout
        for port in process.stdout.readline().split()
    ]
    for process in processes:
        process.communicate("\n", timeout=60)
    assert len(given) == 4 * 60
    assert len(set(given)) == len(given)
