"""A file that is shared by all Sources on it in this process, with a thread that
writes and one that follows."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
from concurrent.futures import Future
from typing import Any

from datasync.errors import BadStore, Forked, UnsupportedOption
from datasync.kvdbsync.sqlite.bell import CommitWatcher
from datasync.kvdbsync.sqlite.claim import identity
from datasync.kvdbsync.sqlite.driver import Connection, Driver
from datasync.kvdbsync.sqlite.follower import Follower
from datasync.kvdbsync.sqlite.opened import OpenFile, Settings, after_fork, registered
from datasync.kvdbsync.sqlite.writer import Writer

__all__ = ["SharedFile", "acquire"]

_CLOSE_TIMEOUT = 5.0


class SharedFile(OpenFile):
    """The file with its two threads. Made by `acquire`, and given back by `release`."""

    def __init__(self, path: str, settings: Settings, library: Driver, *, create: bool) -> None:
        super().__init__(path, settings, library, create=create)
        self.users = 0
        self.pid = os.getpid()
        self.ready: Future[None] = Future()
        """Done once the file is open and checked; carries the error where it cannot be used."""
        self.opened = False
        watcher = CommitWatcher(path, inotify=settings.inotify)
        self._follower: Follower | None = Follower(
            self, watcher, self._begin, self._wait_for_writer
        )
        self._writer: Writer | None = None

    @property
    def follower(self) -> Follower:
        """The thread that follows. Raises what `closing` tells once that has
        ended, and nobody has the file."""
        if self._follower is None:
            raise self.closing()
        return self._follower

    @property
    def writer(self) -> Writer | None:
        """The thread that writes; None where the file can only be read.
        Raises as `follower` does."""
        if self._follower is None:
            raise self.closing()
        return self._writer

    # in the follower's thread

    def _begin(self) -> Connection:
        try:
            connection = self.open()
        except BaseException as error:
            _forget(self)
            self.ready.set_exception(error)
            raise
        with self._lock:
            if not self.read_only and not self._stopping:
                self.notifier.open()
                self._writer = Writer(self, self.follower.committed)
                self._writer.start()
        self.opened = True
        self.ready.set_result(None)
        return connection

    # in any thread

    def given_up(self) -> None:
        _forget(self)
        self.stop()
        writer = self._writer
        self.interrupt(
            [each for each in self._connections if writer is None or not writer.owns(each)]
        )

    def hold(self) -> None:
        """Be one more user of it."""
        with registered():
            self.users += 1

    async def release(self) -> None:
        """Give it back; the last one closes the file, and waits for its threads to end."""
        with registered():
            self.users -= 1
            if self.users > 0:
                return
            _forget(self)
        self.stop()
        threads = [thread.ended for thread in (self._follower, self._writer) if thread is not None]
        done = asyncio.gather(
            *(asyncio.wrap_future(ended) for ended in threads), return_exceptions=True
        )
        await asyncio.wait((done,), timeout=_CLOSE_TIMEOUT)
        self._follower = self._writer = None  # G9: they lead back here

    def _wait_for_writer(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(Exception):
                self._writer.ended.result(_CLOSE_TIMEOUT)

    def stop(self) -> None:
        """Let both threads end once they have done what they were given."""
        with self._lock:
            self._stopping = True
            threads = self._writer, self._follower
        for thread in threads:
            if thread is not None:
                thread.stop()


def acquire(name: str, settings: Settings, library: Driver, *, create: bool) -> SharedFile:
    """The file that `name` leads to, opened now or shared with those who have it open; await its
    `ready`.

    Raises `UnsupportedOption` where they have it open with other options, `BadStore` where they
    have it open by another name, `Forked` where it was open before a fork.
    """
    path = os.path.realpath(name)
    with registered():
        if path in _inherited:
            raise Forked(
                f"{path} was open when this process was forked; start the process with 'spawn', or "
                "fork first"
            )

        file = _files.get(path)
        if file is None:
            _refuse_another_name(path)
            file = _files[path] = SharedFile(path, settings, library, create=create)
            file.follower.start()
        elif file.settings != settings:
            fields = zip(Settings._fields, settings, file.settings, strict=True)
            differs = ", ".join(
                f"{field}={theirs}" for field, ours, theirs in fields if ours != theirs
            )
            raise UnsupportedOption(
                f"{path} is open in this process with {differs}; use the same options everywhere"
            )

        file.users += 1
        return file


def _refuse_another_name(path: str) -> None:
    """Raise `BadStore` where the file is open by another hard link."""
    found = identity(path)
    for other in _files.values() if found is not None else ():
        if other.files is not None and other.files.store == found:
            raise BadStore(f"{path} is {other.path} by another hard link; use one name for both")


_files: dict[str, SharedFile] = {}
_inherited: dict[str, Any] = {}


def _forget(file: SharedFile) -> None:
    with registered():
        if _files.get(file.path) is file:
            del _files[file.path]


def _after_fork() -> None:
    after_fork()
    # kept for ever: closing the parent's connections here would do harm
    _inherited.update(_files)
    for file in _files.values():
        file.abandon()
    _files.clear()


def _at_exit() -> None:
    files = list(_files.values())
    for file in files:
        file.stop()
    for file in files:
        for thread in (file.follower, file.writer):
            if thread is not None:
                with contextlib.suppress(Exception):
                    thread.ended.result(timeout=1.0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
