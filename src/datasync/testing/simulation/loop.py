"""An event loop with a virtual clock: waiting costs nothing, and the same
program always runs the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from datasync.errors import DataSyncError

__all__ = ["Deadlock", "RealIO", "SimLoop", "run_simulated"]

T = TypeVar("T")


class Deadlock(DataSyncError):
    """Nothing can run any more, or nothing but timers for too long, and the main task is not done.

    The message names the tasks that wait, and where.
    """


class RealIO(DataSyncError):
    """Something asked a simulated loop for sockets, processes or threads; it has
    none, put a fake in their place."""


class _Clock:
    """Stands where the loop expects its selector: instead of waiting for the time
    to pass, it moves the clock."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock(
                f"nothing is ready, no timer is set; waiting: {self._loop.waiting()}; finish or "
                "cancel them"
            )
        if timeout > 0 or self._loop.is_idle:
            self._loop.jump()
            if self._loop.time() > self._loop.limit:
                limit = f"not done after {self._loop.limit:g} virtual seconds"
                raise Deadlock(f"{limit}; waiting: {self._loop.waiting()}; finish or cancel them")
        return []


class SimLoop(asyncio.BaseEventLoop):
    """An asyncio loop without I/O whose `time()` jumps to the next timer whenever nothing is ready.

    Timers keep their order, so hours pass in milliseconds and a run repeats exactly. Use it by
    `run_simulated`, or as `asyncio.Runner(loop_factory=SimLoop)`. Raises `Deadlock` when it would
    wait for ever, or runs for more than `limit` virtual seconds (a day); `RealIO` where a program
    wants sockets, processes or threads.
    """

    def __init__(self, limit: float = 86_400.0) -> None:
        super().__init__()
        self.limit = limit
        self._now = 0.0
        self._selector = _Clock(self)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """The virtual time, in seconds since the loop was made."""
        return self._now

    @property
    def is_idle(self) -> bool:
        """Nothing but timers can run."""
        return not self._ready and bool(self._scheduled) and not self._stopping  # type: ignore[attr-defined]

    def jump(self) -> None:
        """Move the clock to the next timer. It always moves, so that no wait of next
        to nothing repeats for ever."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        self._now = max(self._now + self._clock_resolution, scheduled[0].when())

    def waiting(self) -> str:
        """The unfinished tasks and where each of them waits, for messages."""
        found = []
        for task in asyncio.all_tasks(self):
            frames = task.get_stack(limit=1)
            where = f" at {frames[-1].f_code.co_qualname}:{frames[-1].f_lineno}" if frames else ""
            found.append(f"{task.get_name()}{where}")
        return ", ".join(sorted(found)) or "no task"

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no I/O events."""

    def _write_to_self(self) -> None:
        """There is no selector to wake."""

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise RealIO(
            "a simulated loop does no real I/O and has no threads; use async handlers and "
            "in-memory sources"
        )

    add_reader = add_writer = add_signal_handler = _refuse  # type: ignore[assignment]
    run_in_executor = _refuse  # type: ignore[assignment]
    getaddrinfo = getnameinfo = _refuse
    create_connection = create_server = create_datagram_endpoint = _refuse
    create_unix_connection = create_unix_server = _refuse
    subprocess_exec = subprocess_shell = connect_read_pipe = connect_write_pipe = _refuse
    sock_recv = sock_sendall = sock_connect = sock_accept = _refuse


def run_simulated(main: Coroutine[Any, Any, T], *, limit: float = 86_400.0) -> T:
    """Run `main` to its end on a fresh `SimLoop`, as `asyncio.run` does on a real one."""
    with asyncio.Runner(loop_factory=lambda: SimLoop(limit)) as runner:
        return runner.run(main)
