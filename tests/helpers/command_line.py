"""Runs the command line: as a process of its own, or (quicker) in this one."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

SECONDS = 100.0  # the machine may be busy with other tests


def eventually(condition: Callable[[], object], what: str, timeout: float = SECONDS) -> None:
    """Wait until `condition()` is true; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)


class Running:
    """A command that runs; its output is read as it comes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.out = b""
        self.err = b""
        self._threads = [
            threading.Thread(target=self._read, args=(stream, name), daemon=True)
            for stream, name in ((process.stdout, "out"), (process.stderr, "err"))
            if stream is not None
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: IO[bytes], name: str) -> None:
        while data := os.read(stream.fileno(), 65536):
            setattr(self, name, getattr(self, name) + data)

    def wait_for(self, text: str, *, err: bool = False, times: int = 1) -> None:
        """Wait until the output (or standard error) holds `text`."""

        def found() -> bool:
            if (self.err if err else self.out).decode(errors="replace").count(text) >= times:
                return True
            assert self.process.poll() is None, (
                f"ended with {self.process.returncode}: {self.out!r} {self.err!r}"
            )
            return False

        try:
            eventually(found, repr(text))
        except AssertionError as error:
            raise AssertionError(f"{error} in {self!r}") from None

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(SECONDS)
        for thread in self._threads:
            thread.join(SECONDS)
        return code

    def __repr__(self) -> str:
        return f"{self.process.args!r} -> {self.out!r} {self.err!r}"


@dataclasses.dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """Standard error, which is one line of datasync."""
        assert self.err.startswith("datasync: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n"), self.err
        return self.err.removeprefix("datasync: ").rstrip("\n")


class Shell:
    """Commands in the folder of one test."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        self.env = {
            name: value
            for name, value in os.environ.items()
            if name not in ("DATASYNC_URL", "NO_COLOR", "FORCE_COLOR")
        }
        self.env["TERM"] = "xterm"
        self.env["XDG_CONFIG_HOME"] = str(folder / "config")

    def start(
        self, *words: str | bytes, python: tuple[str, ...] = ("-m", "datasync"), **options: Any
    ) -> Running:
        settings: dict[str, Any] = {
            "cwd": self.folder,
            "env": self.env,
            "stdin": subprocess.DEVNULL,
        }
        settings |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        process = subprocess.Popen([sys.executable, *python, *words], **settings)
        self.started.append(process)
        return Running(process)

    def run(self, *words: str | bytes, **options: Any) -> Result:
        """Run a command to its end as a process of its own."""
        running = self.start(*words, **options)
        code = running.wait()
        return Result(code, running.out.decode(), running.err.decode())

    def in_terminal(self, *words: str, until: str = "", **env: str) -> str:
        """What a terminal shows of a command; with `until`, it is ended once that text has come."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "datasync", *words],
            cwd=self.folder,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
        )
        self.started.append(process)
        os.close(slave)
        seen = b""
        deadline = time.monotonic() + SECONDS
        try:
            while time.monotonic() < deadline:
                if select.select([master], [], [], 0.1)[0]:
                    try:
                        data = os.read(master, 65536)
                    except OSError:  # the other side is closed
                        data = b""
                    if not data:
                        break
                    seen += data
                    if until and until.encode() in seen:
                        process.send_signal(signal.SIGINT)
                        until = ""
        finally:
            os.close(master)
        process.wait(SECONDS)
        return seen.decode()


Command = Callable[..., Result]
