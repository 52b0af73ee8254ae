"""Real web servers with several processes. The pages on Flask, Django and gunicorn have the rest, and run in
test_site_examples.py.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.servers import PATIENCE, child, free_ports

pytestmark = pytest.mark.once


class Server:
    """One of them, and what it answers."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; waits until it listens."""
        until = time.monotonic() + PATIENCE
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            with contextlib.closing(connection):
                try:
                    connection.request("GET", path)
                    answer = connection.getresponse()
                    return answer.status, answer.read().decode()
                except ConnectionError:
                    assert time.monotonic() < until
                    time.sleep(0.05)


@contextlib.contextmanager
def serving(directory: Path, code: str, program: str, *arguments: str) -> Iterator[Server]:
    """The server with a module `web` of that code; it ends well at SIGTERM."""
    (directory / "web.py").write_text(textwrap.dedent(code))
    server = Server(free_ports(1)[0])
    command = [f"{Path(sys.executable).parent}/{program}", *arguments, "web:app"]
    environment = os.environ | {"HOME": str(directory)}  # gunicorn keeps a socket there
    command = [part.replace("PORT", str(server.port)) for part in command]
    with child(command, cwd=directory, env=environment, stderr=subprocess.PIPE) as process:
        try:
            yield server
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=PATIENCE)
        except BaseException:
            process.kill()
            print(process.communicate()[1])
            raise
        assert "Traceback" not in said, said
        assert process.returncode in (0, -signal.SIGTERM), said


def test_gunicorn_preload_what_was_started_before_the_fork_is_forked(tmp_path: Path) -> None:
    code = """
        import flask
        from datasync.blocking import DataSync, Forked

        sync = DataSync("memory://")
        flags = sync.view("flags/")
        sync.start()
        sync.ready(timeout=10)
        app = flask.Flask(__name__)

        @app.get("/view")
        def view():
            return dict(flags.items())

        @app.get("/get")
        def get():
            return str(sync.get("flags/beta"))

        @app.get("/status")
        def status():
            return str(sync.status())

        @app.errorhandler(Forked)
        def forked(error):
            return str(error), 503
    """
    server_options = ["--bind", "127.0.0.1:PORT", "--workers", "2", "--preload"]
    with serving(tmp_path, code, "gunicorn", *server_options) as server:
        for path in ("/view", "/get", "/status"):
            status, said = server.get(path)
            assert status == 503
            assert said.endswith("make a new one here, or start it only after the fork")


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_gunicorn_each_worker_follows_the_store(tmp_path: Path, preload: list[str]) -> None:
    code = """
        import os
        import flask
        from datasync.blocking import DataSync

        sync = DataSync("sqlite:///flags.db")
        flags = sync.view("flags/")
        app = flask.Flask(__name__)

        @app.get("/put/<value>")
        def put(value):
            revision = sync.put("flags/beta", value)
            flags.at_least(revision, timeout=60)
            return str(revision)

        @app.get("/view/<int:revision>")
        def view(revision):
            flags.at_least(revision, timeout=60)
            return f"{os.getpid()} {flags['flags/beta'].decode()}"
    """
    (tmp_path / "gunicorn.conf.py").write_text(
        textwrap.dedent("""
            def post_worker_init(worker):
                from web import sync
                sync.start()
                sync.ready(timeout=60)
        """)
    )
    bind = ["--bind", "127.0.0.1:PORT", "--workers", "2", "--threads", "2"]
    with serving(tmp_path, code, "gunicorn", *bind, *preload) as server:
        status, revision = server.get("/put/on")
        assert status == 200
        workers: set[str] = set()
        until = time.monotonic() + PATIENCE
        while len(workers) < 2:
            status, said = server.get(f"/view/{revision}")
            worker, value = said.split()
            assert (status, value) == (200, "on")
            workers.add(worker)
            assert time.monotonic() < until


def test_uvicorn_each_worker_starts_its_own_in_the_lifespan(tmp_path: Path) -> None:
    code = """
        import contextlib, os
        import datasync
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route

        sync = datasync.DataSync("sqlite:///flags.db")
        flags = sync.view("flags/")

        @contextlib.asynccontextmanager
        async def lifespan(app):
            async with sync:
                await sync.ready(timeout=60)
                yield

        async def show(request):
            revision = await sync.put("flags/beta", b"on")
            await flags.at_least(revision, timeout=60)
            return PlainTextResponse(f"{os.getpid()} {flags['flags/beta'].decode()}")

        app = Starlette(routes=[Route("/", show)], lifespan=lifespan)
    """
    options = ["--port", "PORT", "--workers", "2", "--log-level", "warning"]
    with serving(tmp_path, code, "uvicorn", *options) as server:
        workers: set[str] = set()
        until = time.monotonic() + PATIENCE
        while len(workers) < 2:
            status, said = server.get("/")
            worker, value = said.split()
            assert (status, value) == (200, "on")
            workers.add(worker)
            assert time.monotonic() < until
