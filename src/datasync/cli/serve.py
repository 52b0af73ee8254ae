"""serve: the command that lets others follow and write a source, over the network."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple, Protocol

from datasync import open_url
from datasync.cli.parser import Command, Positional, source_options
from datasync.errors import UsageError
from datasync.keyspace import KeySpace
from datasync.terminal.output import Output
from datasync.terminal.process import run
from datasync.transports import load

if TYPE_CHECKING:
    from datasync.serving.access import Access
    from datasync.serving.hub import Hub

__all__ = ["COMMANDS", "allow_many_connections"]


class Listening(Protocol):
    """A server that listens."""

    @property
    def port(self) -> int: ...


class FrontEnd(NamedTuple):
    """A protocol to serve in: the name of its option and scheme, and from an address to a
    server, which `async with` starts."""

    name: str
    serve: Callable[[Access, Hub], AbstractAsyncContextManager[Listening]]


def _grpc(access: Access, hub: Hub) -> AbstractAsyncContextManager[Listening]:
    server: AbstractAsyncContextManager[Listening] = load(
        "datasync.grpcsync.server:Server", "grpc", "--grpc"
    )(access, hub)
    return server


def _http(access: Access, hub: Hub) -> AbstractAsyncContextManager[Listening]:
    server: AbstractAsyncContextManager[Listening] = load(
        "datasync.restsync.agent:serving", "rest", "--http"
    )(access, hub)
    return server


FRONT_ENDS = (FrontEnd("grpc", _grpc), FrontEnd("http", _http))


def _options(parser: argparse.ArgumentParser) -> None:
    for front_end in FRONT_ENDS:
        parser.add_argument(
            f"--{front_end.name}",
            metavar="ADDR",
            help="host:port to listen on, or "
            f"{front_end.name}s://host:port?cert=F&key=F&ca=F for TLS",
        )
    source_options(parser)


def _access(address: str, scheme: str) -> Access:
    # here, as the hub: no other command need wait for them
    from datasync.serving.access import Access

    access = Access.to_listen(address, scheme, f"--{scheme}")
    access.check_bind()
    return access


def _serve(options: argparse.Namespace) -> int:
    from datasync.serving.hub import Hub

    chosen = [(front_end, getattr(options, front_end.name)) for front_end in FRONT_ENDS]
    wanted = [
        (front_end, _access(address, front_end.name))
        for front_end, address in chosen
        if address is not None
    ]
    if not wanted:
        names = " or ".join(f"--{front_end.name}" for front_end in FRONT_ENDS)
        raise UsageError(
            f"serve takes an address to listen on: {names}, for example --grpc 127.0.0.1:9111"
        )
    keys = KeySpace.of(options.label, options.prefix)
    source = open_url(options.url)

    async def work() -> int:
        async with AsyncExitStack() as stack:
            hub = await stack.enter_async_context(Hub(keys.seen(source)))
            for front_end, access in wanted:
                listening = await stack.enter_async_context(front_end.serve(access, hub))
                scheme = f"{front_end.name}s" if access.tls else front_end.name
                where = access.at_port(listening.port).authority
                output.line(f"serving {source.name} on {scheme}://{where}")
            output.flush()
            await asyncio.Event().wait()  # until a signal cancels it
        return 0

    output = Output()
    allow_many_connections()
    return run(work())


def allow_many_connections() -> None:
    """Each watcher is a connection, and many systems begin with a limit of 1,024 files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


COMMANDS = (
    Command(
        "serve",
        "let others follow and write a source over the network, until Ctrl-C",
        (Positional("url", "URL", "the source, for example sqlite:///file.db"),),
        _options,
        _serve,
        """
datasync serve sqlite:///net.db --grpc 127.0.0.1:9111
DATASYNC_TOKEN=... datasync serve etcd://127.0.0.1:2379 --grpc 0.0.0.0:9111
datasync watch grpc+watch://127.0.0.1:9111
datasync serve sqlite:///net.db --http 127.0.0.1:9191   # with the status page
""",
        urls=1,
        follows=True,
    ),
)
