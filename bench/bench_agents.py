"""Many agents behind one server, and servers behind one another.

Each watcher has a connection of its own and follows the same 1,000 keys, over gRPC and server-sent
events, beside a bare server of the same kind that does no more than the work: it sends the state,
which it encodes once, and passes each change on. Servers and clients are processes of their own;
the clients are the same for both. `python -m bench.bench_agents measure 10000` takes more watchers,
where the machine allows it.

Memory and the time of a processor are those of the server; the storm is from the moment at which
all clients are told that the server is there again until the last of them has its state.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.beside import reached
from bench.rows import Row
from bench.tree import Costs, Tree, simulate
from datasync import DataSync, ResyncEvent
from datasync.cli.serve import allow_many_connections
from datasync.kvdbsync.memory import MemorySource
from datasync.serving.access import Access
from datasync.serving.hub import Hub
from datasync.source import Put
from datasync.testing.chaos.ports import free_ports

BARE = "bare server"
PutOne = Callable[[int], Awaitable[object]]

KEYS, VALUE = 1000, b'{"name":"eth0"}'.ljust(190)
_WATCH = "/datasync.v1.DataSync/Watch"
_SINGLE = 10
"""Changes that are made one at a time, each of which is a message of its own."""
_TICK = os.sysconf("SC_CLK_TCK")


def _key(number: int) -> str:
    return f"agents/{number % KEYS:04}"


# -- the servers -----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _ours(protocol: str, port: int) -> AsyncIterator[PutOne]:
    from datasync.grpcsync.server import Server
    from datasync.restsync.agent import serving

    source = MemorySource("agents")
    await source.commit([Put(_key(number), VALUE) for number in range(KEYS)])
    access = Access("bench", "127.0.0.1", port)
    serve: Any = Server if protocol == "grpc" else serving

    async def put(number: int) -> None:
        await source.commit([Put(_key(number), VALUE + b"%d" % time.monotonic_ns())])

    async with Hub(source) as hub, serve(access, hub):
        yield put


class _Bare:
    """The state, encoded once, and a queue a watcher. encode: from a kind of frame, a revision and
    keys to what goes over the wire."""

    def __init__(self, encode: Callable[[str, int, dict[str, bytes]], bytes]) -> None:
        self._encode = encode
        self._items = {_key(number): VALUE for number in range(KEYS)}
        self._revision = 0
        self._snapshot = b""
        self._queues: list[asyncio.Queue[bytes]] = []

    async def put(self, number: int) -> None:
        """One change, for all that watch."""
        change = {_key(number): VALUE + b"%d" % time.monotonic_ns()}
        self._items.update(change)
        self._revision += 1
        self._snapshot = b""
        encoded = self._encode("commit", self._revision, change)
        for queue in self._queues:
            queue.put_nowait(encoded)

    async def watch(self) -> AsyncIterator[bytes]:
        """The state, then what is put, as much at a time as there is."""
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues.append(queue)
        if not self._snapshot:
            self._snapshot = self._encode("snapshot", self._revision, self._items)
        yield self._snapshot
        while True:
            due = [await queue.get()]
            while not queue.empty():
                due.append(queue.get_nowait())
            yield b"".join(due)


def _as_message(kind: str, revision: int, items: dict[str, bytes]) -> bytes:
    from datasync.grpcsync import datasync_pb2 as pb

    keys, values, position = list(items), list(items.values()), f"{'0' * 32}.{revision}"
    if kind == "commit":
        commit = pb.Commit(position=position, revision=revision, keys=keys, values=values)
        return pb.WatchReply(frames=[pb.Frame(commit=commit)]).SerializeToString()
    chunk = pb.Items(keys=keys, values=values, revisions=[revision] * len(keys))
    end = pb.SnapshotEnd(position=position, revision=revision)
    return pb.WatchReply(
        frames=[
            pb.Frame(begin=pb.SnapshotBegin(scopes=[""])),
            pb.Frame(chunk=chunk),
            pb.Frame(end=end),
        ]
    ).SerializeToString()


def _as_event(kind: str, revision: int, items: dict[str, bytes]) -> bytes:
    rows = [{"op": "put", "key": key, "value": raw.decode()} for key, raw in items.items()]
    data = json.dumps({"revision": revision, "changes": rows}, separators=(",", ":"))
    name = "commit" if kind == "commit" else "snapshot-end"
    return f"event: {name}\nid: {'0' * 32}.{revision}\ndata: {data}\n\n".encode()


@contextlib.asynccontextmanager
async def _bare_grpc(port: int) -> AsyncIterator[PutOne]:
    import grpc.aio

    from datasync.grpcsync import datasync_pb2 as pb

    one = _Bare(_as_message)

    async def watch(request: Any, context: Any) -> None:
        async for message in one.watch():
            await context.write(message)

    method: Any = grpc.unary_stream_rpc_method_handler(watch, pb.WatchRequest.FromString)
    service, name = _WATCH[1:].split("/")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {name: method}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield one.put
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def _bare_http(port: int) -> AsyncIterator[PutOne]:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    from datasync.restsync.listener import Listener

    one = _Bare(_as_event)

    async def events(_: Request) -> Response:
        return StreamingResponse(one.watch(), media_type="text/event-stream")

    listener = Listener(Starlette(routes=[Route("/v1/events", events)]))
    await listener.start("127.0.0.1", port)
    try:
        yield one.put
    finally:
        await listener.aclose()


async def _serve(protocol: str, whose: str, port: int) -> None:
    """Serve until the input ends; each line of it is a number of changes to make."""
    bare = _bare_grpc if protocol == "grpc" else _bare_http
    async with _ours(protocol, port) if whose == "ours" else bare(port) as put:
        lines = await _input()
        _say("listening")
        while line := await lines.readline():
            count, pause = line.split()
            for number in range(int(count)):
                await put(number)
                if float(pause) or number % 10 == 9:
                    await asyncio.sleep(float(pause))
            _say("done")


# -- the clients -----------------------------------------------------------------------------------


class _Clients:
    """Some watchers, which all begin when they are told to."""

    def __init__(self, protocol: str, port: int, count: int, prefix: str) -> None:
        self._follow = self._grpc if protocol == "grpc" else self._http
        self._port = port
        self._prefix = prefix
        self._count = count
        self._current = self._commits = 0
        self._moved = asyncio.Event()

    async def begin(self) -> None:
        """Connect all of them, and wait until each has its state."""
        self._current = self._commits = 0
        self._tasks = [asyncio.create_task(self._follow()) for _ in range(self._count)]
        await self._until(lambda: self._current == self._count)

    async def again(self) -> None:
        """Wait until each has a state once more, over the connection that it has."""
        self._current = 0
        await self._until(lambda: self._current >= self._count)

    async def have(self, commits: int) -> None:
        """Wait until each has seen so many commits since its state, all together."""
        await self._until(lambda: self._commits >= commits * self._count)

    async def end(self) -> None:
        """The server has gone: wait until all have noticed."""
        await asyncio.wait(self._tasks)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._moved.clear()
            await self._moved.wait()

    def _saw(self, snapshots: int, commits: int) -> None:
        self._current += snapshots
        self._commits += commits
        self._moved.set()

    async def _grpc(self) -> None:
        import grpc.aio

        from datasync.grpcsync import datasync_pb2 as pb

        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}", options=options) as channel:
            rpc: Any = channel.unary_stream(
                _WATCH, pb.WatchRequest.SerializeToString, pb.WatchReply.FromString
            )
            call = rpc(pb.WatchRequest(scopes=[self._prefix]))
            with contextlib.suppress(grpc.aio.AioRpcError):
                while (reply := await call.read()) is not grpc.aio.EOF:
                    kinds = [frame.WhichOneof("kind") for frame in reply.frames]
                    self._saw(kinds.count("end"), kinds.count("commit"))

    async def _http(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        target = f"/v1/events?prefix={self._prefix}"
        writer.write(f"GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        tail = b""
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                data = tail + data
                lines = data.split(b"\n")
                tail = lines.pop()
                snapshots, commits = (
                    lines.count(b"event: snapshot-end"),
                    lines.count(b"event: commit"),
                )
                if snapshots or commits:
                    self._saw(snapshots, commits)
        writer.close()


async def _client(protocol: str, port: int, count: int, prefix: str) -> None:
    """Told "begin", "again", "have N" or "end", a line each; says when it is done, by the clock
    that all processes share."""
    clients, lines = _Clients(protocol, port, count, prefix), await _input()
    while line := await lines.readline():
        match line.decode().split():
            case ["begin"]:
                await clients.begin()
            case ["again"]:
                await clients.again()
            case ["have", commits]:
                await clients.have(int(commits))
            case ["end"]:
                await clients.end()
        _say(str(time.monotonic()))


async def _delay(urls: list[str], changes: int) -> None:
    """Follow at each URL; prints the median time from a put to the handler, in ms, of each."""
    waits: list[list[float]] = [[] for _ in urls]
    enough = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        for url, found in zip(urls, waits, strict=True):
            sync = DataSync(url)

            @sync.watcher("", name="all")
            async def handler(event: Any, found: list[float] = found) -> None:
                if isinstance(event, ResyncEvent):
                    return
                now = time.monotonic_ns()
                found += [now - int(change.raw[len(VALUE) :]) for change in event.changes]
                if min(map(len, waits)) >= changes:
                    enough.set()

            await stack.enter_async_context(sync)
            await sync.ready()
        _say("ready")
        await enough.wait()
    _say(json.dumps([statistics.median(found) / 1e6 for found in waits]))


async def _input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


def _say(line: str) -> None:
    print(line, flush=True)


# -- the figures -----------------------------------------------------------------------------------


class _Process:
    """One of the roles above, which is told lines, and answers each with one."""

    def __init__(self, *words: object, module: str = "bench.bench_agents") -> None:
        command = [sys.executable, "-m", module, *map(str, words)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # a relay says that its source is lost, as it is meant to be
            stderr=subprocess.DEVNULL if module == "datasync" else None,
            text=True,
        )

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "a process of the benchmark has ended"
        return line.strip()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.hear()

    @property
    def seconds(self) -> float:
        """Of a processor, up to now."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def memory(self, what: str) -> int:
        """Bytes: VmRSS, now, or VmHWM, at most."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition(f"{what}:")[2].split()[0]) << 10

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class _Found(NamedTuple):
    """Of one server, and of the clients where it says so. Units are in `_ROWS`."""

    memory: float
    peak: float
    storm: float
    snapshot: float
    delivered: float
    delivery: float
    message: float
    client_message: float
    client_snapshot: float


_ROWS = (
    ("memory a watcher", "kB"),
    ("memory a watcher, at the most in a storm", "kB"),
    ("all current after a restart", "s"),
    ("processor a snapshot, with its new connection", "ms"),
    ("changes delivered", "deliveries/s"),
    ("processor a change in a stream of them", "µs"),
    ("processor a message with one change", "µs"),
    ("processor of a client a message", "µs"),
    ("processor of a client a snapshot", "ms"),
)


def _one_run(protocol: str, whose: str, watchers: int, changes: int) -> _Found:
    [port] = free_ports(1)
    with _Process("client", protocol, port, watchers, "agents/") as client:
        with _Process("serve", protocol, whose, port) as server:
            server.hear()
            before = server.memory("VmRSS")
            client.ask("begin")
            memory = (server.memory("VmRSS") - before) / watchers

            busy, began = server.seconds, time.monotonic()
            server.tell(f"{changes} 0")
            took = float(client.ask(f"have {changes}")) - began
            server.hear()
            busy = server.seconds - busy

            single, read = server.seconds, client.seconds
            server.tell(f"{_SINGLE} {watchers / 5000}")
            client.ask(f"have {changes + _SINGLE}")
            server.hear()
            single, read = server.seconds - single, client.seconds - read
        client.ask("end")

        with _Process("serve", protocol, whose, port) as server:
            server.hear()
            idle, before, began = server.seconds, server.memory("VmRSS"), time.monotonic()
            client_idle = client.seconds
            storm = float(client.ask("begin")) - began
            return _Found(
                memory / 1e3,
                (server.memory("VmHWM") - before) / watchers / 1e3,
                storm,
                (server.seconds - idle) / watchers * 1e3,
                watchers * changes / took,
                busy / (watchers * changes) * 1e6,
                single / (watchers * _SINGLE) * 1e6,
                read / (watchers * _SINGLE) * 1e6,
                (client.seconds - client_idle) / watchers * 1e3,
            )


def _connecting(protocol: str, watchers: int) -> float:
    """Seconds of a server's processor for a watcher of nothing."""
    [port] = free_ports(1)
    with (
        _Process("serve", protocol, "ours", port) as server,
        _Process("client", protocol, port, watchers, "nothing/") as client,
    ):
        server.hear()
        idle = server.seconds
        client.ask("begin")
        return (server.seconds - idle) / watchers


def _many(protocol: str, bare: _Found, ours: _Found, watchers: int) -> Iterator[Row]:
    for (what, unit), other, mine in zip(_ROWS, bare, ours, strict=True):
        yield Row(
            what=what, unit=unit, ours=mine, beside={BARE: other},
            case={"over": protocol, "watchers": watchers, "keys": KEYS},
        )  # fmt: skip


def _levels(protocol: str, levels: int, changes: int) -> Row:
    """The delay of each level: a root, and relays behind one another."""
    scheme = {"grpc": "grpc+watch", "http": "http"}[protocol]
    ports = free_ports(levels)
    urls = [f"{scheme}://127.0.0.1:{port}" for port in ports]
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(_Process("serve", protocol, "ours", ports[0]))
        root.hear()
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        with (Path(directory) / "log").open("wb") as log:
            for url, port in zip(urls, ports[1:], strict=False):
                address = f"127.0.0.1:{port}"
                relay = [sys.executable, "-m", "datasync", "serve", url, f"--{protocol}", address]
                process = stack.enter_context(subprocess.Popen(relay, stdout=log, stderr=log))
                stack.callback(process.kill)
                reached(port)
        followers = stack.enter_context(_Process("delay", changes, *urls))
        followers.hear()
        root.tell(f"{changes} 0.01")
        delays: list[float] = json.loads(followers.hear())
    return Row(
        what="delay of a level of relays", unit="ms",
        ours=(delays[-1] - delays[0]) / (levels - 1),
        case={"over": protocol, "levels": levels, "changes a second": 100},
        also={f"level {level}, ms": delay for level, delay in enumerate(delays)},
    )  # fmt: skip


def _law(protocol: str, agents: int, found: _Found) -> Iterator[Row]:
    """A small tree whose root is started again, beside what the simulation makes of it with the
    costs that were measured just before: the time of a processor that a relay takes for it."""
    scheme = {"grpc": "grpc+watch", "http": "http"}[protocol]
    root, *ports = free_ports(3)
    with contextlib.ExitStack() as stack:
        servers = []
        clients = []
        with _Process("serve", protocol, "ours", root) as first:
            first.hear()
            connecting = _connecting(protocol, agents)
            for port in ports:
                words = ("serve", f"{scheme}://127.0.0.1:{root}", f"--{protocol}")
                relay = _Process(*words, f"127.0.0.1:{port}", module="datasync")
                servers.append(stack.enter_context(relay))
                relay.hear()
                client = _Process("client", protocol, port, agents // 2, "agents/")
                clients.append(stack.enter_context(client))
                client.ask("begin")
            idle = sum(server.seconds for server in servers)
            for client in clients:
                client.tell("again")
        lost = time.monotonic()
        stack.enter_context(_Process("serve", protocol, "ours", root)).hear()
        began = time.monotonic()
        herd = max(float(client.hear()) for client in clients) - began
        busy = (sum(server.seconds for server in servers) - idle) / 2

    costs = Costs(
        message=found.message / 1e6,
        change=found.delivery / 1e6,
        snapshot=max(0.0, found.snapshot / 1e3 - connecting),  # of a few watchers, clock ticks
        connecting=connecting,
        taken_message=found.client_message / 1e6,
        taken_snapshot=found.client_snapshot / 1e3,
        memory=found.memory * 1e3,
    )
    cores = len(os.sched_getaffinity(0))
    simulated = simulate(Tree(agents, [1, 2], cores), costs, 1, outage=began - lost)
    for what, measured, expected in (
        ("processor of a relay", busy, simulated.busy[-1]),
        ("all current", herd, simulated.herd[-1]),
    ):
        yield Row(
            what=f"a root is started again: {what}", unit="s", ours=measured,
            beside={"simulated": expected}, case={"over": protocol, "agents": agents, "relays": 2},
            also={"outage, s": began - lost, "connection, ms": connecting * 1e3},
        )  # fmt: skip


def _measure(
    watchers: int, changes: int, protocols: Sequence[str] = ("grpc", "http")
) -> Iterator[Row]:
    allow_many_connections()
    for protocol in protocols:
        bare = _one_run(protocol, "bare", watchers, changes)
        ours = _one_run(protocol, "ours", watchers, changes)
        yield from _many(protocol, bare, ours, watchers)
        yield from _law(protocol, watchers, ours)
        yield _levels(protocol, 3, changes)


def run(quick: bool) -> Iterator[Row]:
    """The rows."""
    yield from _measure(20, 20, ["http"]) if quick else _measure(1000, 200)


if __name__ == "__main__":
    allow_many_connections()
    match sys.argv[1:]:
        case ["serve", protocol, whose, port]:
            asyncio.run(_serve(protocol, whose, int(port)))
        case ["client", protocol, port, count, prefix]:
            asyncio.run(_client(protocol, int(port), int(count), prefix))
        case ["delay", changes, *urls]:
            asyncio.run(_delay(urls, int(changes)))
        case ["measure", watchers]:
            for row in _measure(int(watchers), 200):
                _say(json.dumps(msgspec.to_builtins(row)))
