"""What is taken of uvicorn beside what it documents: the protocol of one connection, each member
by its name. A version that has others fails here, and says which.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
from pathlib import Path

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

import datasync
from datasync.restsync import listener

CONFIG = [
    "app", "http", "ws", "lifespan", "log_config", "log_level", "access_log", "server_header",
    "date_header", "proxy_headers", "timeout_keep_alive", "loop",
]  # fmt: skip
REPLACED = {
    "__init__", "connection_made", "connection_lost", "data_received", "eof_received",
    "pause_writing", "resume_writing", "on_message_begin", "on_header", "on_headers_complete",
    "on_message_complete", "on_response_complete",
}  # fmt: skip
"""What a connection is told, by its transport and by the parser."""
ATTRIBUTES = {"app_state", "cycle", "loop", "pipeline", "scheme", "transport"}


def test_what_a_connection_is_made_of() -> None:
    assert set(CONFIG) <= set(inspect.signature(Config).parameters)
    made_of = list(inspect.signature(HttpToolsProtocol).parameters)
    assert made_of == ["config", "server_state", "app_state", "_loop"]
    state = ServerState()
    assert (state.connections, state.tasks) == (set(), set())


def test_what_ours_replaces_is_there() -> None:
    ours, theirs = vars(listener._Protocol), vars(HttpToolsProtocol)
    assert {name for name in ours if callable(ours[name]) and name in theirs} == REPLACED
    assert callable(HttpToolsProtocol.shutdown)


def test_what_ours_looks_at_is_there() -> None:
    async def app(scope: object, receive: object, send: object) -> None: ...

    async def main() -> None:
        config = Config(app, log_config=None)
        config.load()
        one = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
        assert vars(one).keys() >= ATTRIBUTES

    asyncio.run(main())
    assert "self.response_complete = " in inspect.getsource(RequestResponseCycle)
    # a request that waits is put at the left, and taken from the right
    source = inspect.getsource(HttpToolsProtocol)
    assert "self.pipeline.appendleft(" in source
    assert "self.pipeline.pop()" in source


def test_all_of_it_stands_in_one_module() -> None:
    package = Path(datasync.__file__).parent
    taking = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom | ast.Import)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
        if name.partition(".")[0] == "uvicorn"
    }
    assert taking == {"restsync/listener.py"}
