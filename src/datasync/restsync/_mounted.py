"""What an agent has to know that is mounted in a server of somebody else: when that
ends, and whether it runs twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from datasync.errors import BadStore

__all__ = ["only_worker", "stop_signals"]

Handler = Callable[[int, FrameType | None], Any]

_held: dict[int, tuple[socket.socket, int]] = {}
"""By the inode of a listening socket: the lock that this process has for it,
and how many agents hold it."""


@contextlib.contextmanager
def stop_signals(call: Callable[[], None]) -> Iterator[None]:
    """Within the block, `call` in the running loop when SIGINT or SIGTERM asks the
    server to end, beside what it does.

    A server waits for the ends of its answers before it tells its application anything,
    and a stream has none. Does nothing where the server handles no signals in Python,
    or outside of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    changed: list[tuple[signal.Signals, Handler, Handler]] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if callable(handler) and handler is not signal.default_int_handler:
            ours = _beside(handler, loop, call)
            changed.append((number, handler, ours))
            signal.signal(number, ours)
    try:
        yield
    finally:
        for known, handler, ours in changed:
            if signal.getsignal(known) is ours:
                signal.signal(known, handler)


def _beside(handler: Handler, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Handler:
    def stop(number: int, frame: FrameType | None) -> object:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(call)
        return handler(number, frame)

    return stop


@contextlib.contextmanager
def only_worker(name: str) -> Iterator[None]:
    """Within the block, no other worker process of the same server may run an agent:
    each would have half the state.

    Workers share the sockets that their server listens on. Raises `BadStore`. Where a system has no
    such names for sockets (other than Linux), nothing is found out.
    """
    held: list[int] = []
    try:
        for number in _bound_sockets():
            _hold(number, name)
            held.append(number)
        yield
    finally:
        for number in held:
            _release(number)


def _bound_sockets() -> list[int]:
    """The inodes of the stream sockets of this process that are bound and lead to nobody."""
    found = []
    try:
        descriptors = [int(entry) for entry in os.listdir("/proc/self/fd")]
    except OSError:
        return []
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # it is closed by now
            status = os.fstat(descriptor)
            if stat.S_ISSOCK(status.st_mode) and _is_bound(descriptor):
                found.append(status.st_ino)
    return sorted(set(found))


def _is_bound(descriptor: int) -> bool:
    """Whether the socket is a stream socket that is bound to a port and leads to nobody."""
    with socket.socket(fileno=os.dup(descriptor)) as one:
        if one.type is not socket.SOCK_STREAM or one.family == socket.AF_UNIX:
            return False
        if not one.getsockname()[1]:
            return False
        try:
            one.getpeername()
        except OSError:
            return True
        return False


def _hold(number: int, name: str) -> None:
    held = _held.get(number)
    if held is not None:
        _held[number] = held[0], held[1] + 1
        return
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0datasync-rest-{number}")  # goes with the process
    except OSError:
        lock.close()
        raise BadStore(
            f"{name}: another worker process of this server runs the same agent, and each would "
            "have a part of the state; run a single worker (uvicorn --workers 1)"
        ) from None
    _held[number] = lock, 1


def _release(number: int) -> None:
    lock, count = _held.pop(number)
    if count > 1:
        _held[number] = lock, count - 1
    else:
        lock.close()
