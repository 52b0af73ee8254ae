"""Transports that count."""

from __future__ import annotations

from typing import Any

__all__ = ["CountingTransport"]


class CountingTransport:
    """A transport that counts what it is given to send."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.sent = 0

    def write(self, data: bytes) -> None:
        self.sent += 1
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
