"""Probes: whether the process answers, and whether it is ready. Nothing else, so that it may listen
where anybody comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasync.restsync._requests import Receive, Send

__all__ = ["Health"]

_TEXT = b"text/plain; charset=utf-8"


class Health:
    """An ASGI application: `/healthz` is 200 while the event loop answers, `/readyz` 200 or 503.

    ready: whether it is.
    """

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        status, text = self._answer(scope["method"], scope["path"])
        body = text.encode() + b"\n"
        headers = [
            (b"content-type", _TEXT),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        if scope["method"] not in ("GET", "HEAD"):  # it may have a body that nobody reads
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, method: str, path: str) -> tuple[int, str]:
        if path not in ("/healthz", "/readyz"):
            return 404, "there is nothing at this path"
        if method not in ("GET", "HEAD"):
            return 405, "this takes GET and HEAD"
        if path == "/readyz" and not self._ready():
            return 503, "not ready"
        return 200, "ready" if path == "/readyz" else "alive"
