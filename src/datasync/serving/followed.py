"""How far a client has followed a hub: what lets it wait until it has all that the server had."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from datasync.capabilities import Capabilities
from datasync.errors import Disconnected
from datasync.serving.log import number_of, parts_of
from datasync.source import Commit, Frame, Progress, SnapshotEnd

__all__ = ["STREAM", "Followed"]

STREAM = "datasync-stream"
"""The header, or the metadata, in which a server names a stream."""


class Followed:
    """The position after the last frame of a stream that the engine has taken over. name: of the
    server. told: what it says that its source can; where revisions are in one order, they only
    grow until a snapshot begins."""

    def __init__(self, name: str, told: Capabilities | None = None) -> None:
        self._name = name
        self._ordered = told is not None and told.revisions and told.order == "total"
        self._revision = 0
        self._position = ""
        self._moved = asyncio.Event()
        self._ended = False

    def check(self, frames: Sequence[Frame]) -> None:
        """G3: raise `Disconnected` where one of the next frames is older
        than what came before it."""
        for frame in frames if self._ordered else ():
            match frame:
                case SnapshotEnd(_, revision):
                    self._revision = revision
                case Commit(_, revision):
                    if revision < self._revision:
                        raise Disconnected(
                            f"{self._name}: its revisions go back, from {self._revision} to "
                            f"{revision}; check the server, and what stands before it"
                        )
                    self._revision = revision

    def took(self, frames: Sequence[Frame]) -> None:
        """The engine has taken over these frames."""
        for frame in reversed(frames):
            if isinstance(frame, Commit | Progress | SnapshotEnd):
                self._position = frame.position
                self._move()
                return

    def end(self) -> None:
        """The stream has ended; who waits hears it."""
        self._ended = True
        self._move()

    async def reach(self, position: str) -> None:
        """Wait until it is at `position`, or after it. Raises `Disconnected` when the stream ends,
        or where the position is not understood."""
        if number_of(position) is None:
            raise Disconnected(
                f"{self._name} tells of a position {position[:100]!r}, which this version does not "
                "know; check the versions of both sides"
            )
        while not _reached(self._position, position):
            if self._ended:
                raise Disconnected(f"{self._name}: the stream has ended")
            await self._moved.wait()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


def _reached(position: str, wanted: str) -> bool:
    """Whether `position` is `wanted` or after it in the same log; see `CommitLog.position`."""
    number, least = number_of(position), number_of(wanted)
    return (
        parts_of(position)[0] == parts_of(wanted)[0]
        and number is not None
        and least is not None
        and number >= least
    )
