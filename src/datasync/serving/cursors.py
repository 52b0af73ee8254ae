"""Where remote clients stand in the lists that they read page by page."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from datasync.source import ROW_BYTES, Held, Item

__all__ = ["Cursor", "Cursors"]

_MOST = 1024
_BYTES = 64 << 20
_FEW = 4
"""Cursors that are kept whatever the size: a store is read page by page however large it is."""


class Cursor(msgspec.Struct, frozen=True):
    """A cursor: which list it belongs to, the items that were read and not shown, and the token of
    the rest."""

    what: object
    rest: Sequence[Item]
    token: Any
    since: float

    @property
    def bytes(self) -> int:
        """About what the items take; what the token holds is counted once for all that share it."""
        return sum(ROW_BYTES + len(raw) for _, raw, _ in self.rest)


class Cursors:
    """Keeps cursors for `patience` seconds. The oldest are forgotten where there are too many, or
    they keep too many bytes.

    Many tokens hold a snapshot (`Held`), which lists of the same state share.
    """

    def __init__(self, patience: float = 60.0) -> None:
        self._patience = patience
        self._kept: OrderedDict[str, Cursor] = OrderedDict()
        self._snapshots: dict[int, int] = {}
        """How many cursors hold each snapshot, by its id."""
        self._timer: asyncio.TimerHandle | None = None
        self.bytes = 0
        """What all of them hold, about."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, what: object, rest: Sequence[Item], token: Any) -> str:
        """Keep a cursor, and name it."""
        name, cursor = (
            secrets.token_urlsafe(12),
            Cursor(what, rest, token, asyncio.get_running_loop().time()),
        )
        self._kept[name] = cursor
        self.bytes += cursor.bytes
        if isinstance(token, Held):
            holders = self._snapshots[id(token.rows)] = self._snapshots.get(id(token.rows), 0) + 1
            self.bytes += token.size if holders == 1 else 0
        # G9: what clients leave unread is bounded
        while len(self._kept) > _MOST or (self.bytes > _BYTES and len(self._kept) > _FEW):
            self.take(next(iter(self._kept)))
        self._expire()
        return name

    def take(self, name: str) -> Cursor | None:
        """What a name stands for, which is used once; None where it is forgotten."""
        cursor = self._kept.pop(name, None)
        if cursor is None:
            return None
        self.bytes -= cursor.bytes
        if isinstance(cursor.token, Held):
            holders = self._snapshots[id(cursor.token.rows)] - 1
            self._snapshots[id(cursor.token.rows)] = holders
            if not holders:
                del self._snapshots[id(cursor.token.rows)]
                self.bytes -= cursor.token.size
        if not self._kept and self._timer is not None:
            self._timer.cancel()
        return cursor

    def _expire(self) -> None:
        """Forget those that nobody came back for in time, and come back for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._kept:
            name, cursor = next(iter(self._kept.items()))
            due = cursor.since + self._patience
            if due > loop.time():
                self._timer = loop.call_at(due, self._expire)
                return
            self.take(name)
