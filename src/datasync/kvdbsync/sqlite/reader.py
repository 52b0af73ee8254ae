"""Long reads: a thread and a connection of their own, for as long as the read takes, so
that nobody waits behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from datasync.kvdbsync.sqlite.driver import Connection
from datasync.kvdbsync.sqlite.opened import OpenFile

__all__ = ["read_apart"]

T = TypeVar("T")


def read_apart(file: OpenFile, read: Callable[[Connection], T]) -> Future[T]:
    """Run `read` inside one read transaction, in a thread of its own; the errors
    of the future are typed ones."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            connection = file.connect()
            try:
                connection.run("BEGIN")
                result = read(connection)
                connection.run("ROLLBACK")
            finally:
                file.disconnect(connection)
        except Exception as error:
            future.set_exception(file.explain(error))
        else:
            future.set_result(result)

    threading.Thread(target=run, name="datasync-sqlite-read", daemon=True).start()
    return future
