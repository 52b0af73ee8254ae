"""Following a server: its events, turned back into frames."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import aiohttp
import msgspec

from datasync.codec.shared import UNDECODABLE
from datasync.connecting import too_large
from datasync.errors import DataSyncError, Disconnected
from datasync.restsync._bodies import Item
from datasync.restsync._events import BEGIN, CHUNK, COMMIT, END, PROGRESS
from datasync.serving.followed import STREAM, Followed
from datasync.source import (
    Commit,
    Frame,
    Progress,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
)

__all__ = ["HttpSession"]


class _Begin(msgspec.Struct):
    scopes: list[str]


class _Chunk(msgspec.Struct):
    items: list[Item]


class _End(msgspec.Struct):
    revision: int
    history: str = ""


class _Change(msgspec.Struct):
    op: str
    key: str
    value: str | None = None
    value_base64: str | None = None

    def pair(self) -> tuple[str, bytes | None]:
        if self.value is not None:
            return self.key, self.value.encode()
        return self.key, None if self.value_base64 is None else base64.b64decode(self.value_base64)


class _Commit(msgspec.Struct):
    revision: int
    changes: list[_Change]


class _Progress(msgspec.Struct):
    revision: int


_begin, _chunk, _end = map(msgspec.json.Decoder, (_Begin, _Chunk, _End))
_commit, _progress = map(msgspec.json.Decoder, (_Commit, _Progress))


def _to_begin(_: str, data: bytes) -> Frame:
    return SnapshotBegin(_begin.decode(data).scopes)


def _to_chunk(_: str, data: bytes) -> Frame:
    return SnapshotChunk(
        [(item.key, item.raw, item.revision) for item in _chunk.decode(data).items]
    )


def _to_end(position: str, data: bytes) -> Frame:
    end = _end.decode(data)
    return SnapshotEnd(position, end.revision, end.history)


def _to_commit(position: str, data: bytes) -> Frame:
    commit = _commit.decode(data)
    return Commit(position, commit.revision, [change.pair() for change in commit.changes])


def _to_progress(position: str, data: bytes) -> Frame:
    return Progress(position, _progress.decode(data).revision)


_FRAMES: Mapping[bytes, Callable[[str, bytes], Frame]] = {
    BEGIN.encode(): _to_begin,
    CHUNK.encode(): _to_chunk,
    END.encode(): _to_end,
    COMMIT.encode(): _to_commit,
    PROGRESS.encode(): _to_progress,
}


class HttpSession(Session):
    """One stream of events.

    most: bytes that one event may have.
    ping: has the server send a sign of life on a stream.
    catch_up: tells where the stream has to be to have all that the server's source has
        acknowledged; None where there is nothing.
    """

    def __init__(
        self,
        name: str,
        response: aiohttp.ClientResponse,
        most: int,
        followed: Followed,
        ping: Callable[[str], Awaitable[None]],
        catch_up: Callable[[str], Awaitable[str | None]],
    ) -> None:
        self._name = name
        self._response = response
        self._stream = response.headers.get(STREAM, "")
        self._ping = ping
        self._catch_up = catch_up
        self._heard = asyncio.Event()
        self._most = most
        self._followed = followed
        self._ended = False

    async def __aiter__(self) -> AsyncIterator[Sequence[Frame]]:
        rest = bytearray()
        try:
            async for data in self._response.content.iter_any():
                self._heard.set()
                # only what is new can hold the end of an event, save for
                # the first of its two line ends
                seen = max(0, len(rest) - 1)
                rest += data
                end = rest.rfind(b"\n\n", seen)
                if end < 0:
                    if len(rest) > self._most:
                        raise too_large(self._name, self._most)
                    continue

                events = bytes(rest[:end])
                del rest[: end + 2]

                if frames := [
                    frame for event in events.split(b"\n\n") if (frame := _frame(event)) is not None
                ]:
                    self._followed.check(frames)
                    yield frames
                    self._followed.took(frames)
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise Disconnected(f"{self._name}: the stream of events broke off") from None
        except (*UNDECODABLE, ValueError) as error:  # a ValueError: what is not base64
            raise Disconnected(
                f"{self._name} sent something that is not an event of datasync ({error})"
            ) from None
        finally:
            self._end()

        raise Disconnected(f"{self._name} ended the stream")

    async def ping(self) -> None:
        self._heard.clear()
        try:
            await self._ping(self._stream)
        except DataSyncError as error:
            raise Disconnected(str(error)) from None
        if not self._ended:
            await self._heard.wait()
        if self._ended:
            raise Disconnected(f"{self._name}: the stream has ended")

    async def caught_up(self) -> None:
        position = await self._catch_up(self._stream)
        if position is not None:
            await self._followed.reach(position)

    async def aclose(self) -> None:
        self._end()
        self._response.close()

    def _end(self) -> None:
        """Nothing more comes; who waits hears it."""
        self._ended = True
        self._heard.set()
        self._followed.end()


def _frame(event: bytes) -> Frame | None:
    """One event as a frame; None for comments and kinds that are not known."""
    name = data = b""
    position = ""
    for line in event.split(b"\n"):
        if line.startswith(b"data: "):
            data = line[6:]
        elif line.startswith(b"event: "):
            name = line[7:]
        elif line.startswith(b"id: "):
            position = line[4:].decode()
    make = _FRAMES.get(name)
    return None if make is None else make(position, data)
