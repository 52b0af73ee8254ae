"""Gateways before a server: one that answers in its place, and one that packs what it passes on."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Mapping

import aiohttp
from aiohttp import web

from tests.helpers.servers import free_ports, listening

__all__ = ["answering", "packing"]

_PASSED_ON = ("content-type", "datasync-answer", "datasync-stream", "datasync-capabilities", "etag")


@contextlib.asynccontextmanager
async def answering(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, cut: int = 0
) -> AsyncIterator[str]:
    """The URL of a gateway that answers everything by itself;
    `cut` bytes of the body never come.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        told = {"content-length": str(len(body)), "connection": "close"} | dict(headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        writer.write(f"HTTP/1.1 {status} Hm\r\n{head}\r\n".encode() + body[: len(body) - cut])
        await writer.drain()

    async with listening(answer) as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def packing(target: str, encoding: str, *, always: bool = False) -> AsyncIterator[str]:
    """The URL of a gateway before `target` that packs what it passes on,
    where that is asked for or `always`.
    """
    async with aiohttp.ClientSession(auto_decompress=False) as client:

        async def pass_on(request: web.Request) -> web.StreamResponse:
            data = await request.read()
            wanted = always or encoding in request.headers.get("Accept-Encoding", "")
            async with client.request(
                request.method, target + request.raw_path, data=data, allow_redirects=False,
                headers={"Content-Type": request.headers.get("Content-Type", ""), "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=None),
            ) as answer:  # fmt: skip
                kept = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
                if wanted:
                    kept["Content-Encoding"] = encoding
                response = web.StreamResponse(status=answer.status, headers=kept)
                await response.prepare(request)
                packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
                with contextlib.suppress(aiohttp.ClientError):
                    async for chunk in answer.content.iter_any():
                        if wanted:
                            chunk = packer.compress(chunk) + packer.flush(zlib.Z_SYNC_FLUSH)
                        await response.write(chunk)
                if wanted:
                    await response.write(packer.flush())
                return response

        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", pass_on)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        [port] = free_ports(1)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            await runner.cleanup()
