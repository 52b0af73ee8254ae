"""One connection to a broker, whose frames have a bound."""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection

__all__ = ["Connection", "FrameTooLarge"]


class FrameTooLarge(ConnectionError):
    """The broker announces more than `most` bytes at once, or less than nothing."""

    def __init__(self, most: int) -> None:
        super().__init__(f"a frame is larger than {most} bytes")
        self.most = most


class Connection(AIOKafkaConnection):  # type: ignore[misc] # it has no types
    """The client's own, but for the bound. `most`: bytes of one answer."""

    _reader: Any

    def __init__(self, host: str, port: int, most: int, **more: Any) -> None:
        super().__init__(host, port, **more)
        self._most = most

    def _create_reader_task(self) -> Any:
        # made anew with each connection, just before its first answer
        self._reader = _Bounded(self._reader, self._most)
        return super()._create_reader_task()


class _Bounded:
    """A reader that waits for no more than `most` bytes at once."""

    def __init__(self, reader: Any, most: int) -> None:
        self._reader = reader
        self._most = most

    async def readexactly(self, size: int) -> bytes:
        if not 0 <= size <= self._most:
            raise FrameTooLarge(self._most)
        data: bytes = await self._reader.readexactly(size)
        return data

    def at_eof(self) -> bool:
        return bool(self._reader.at_eof())
