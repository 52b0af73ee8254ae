"""The pages of the documentation site: their code runs, and prints what they show.

A page is played from its top. A Python block that begins with the name of a file is saved under that name and started,
pytest for a test, unless a console block of the page starts it; what it prints is the text blocks below. A server that a shell block starts runs in the same way, at
ports that are free here. The blocks without such a name are the cells of a notebook: one process of the page runs them
one after another. Shell blocks run beside it, and `console` blocks show what their commands print. A Dockerfile and the
objects of Kubernetes are held against what runs at that point of the page.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

import datasync
from tests.helpers.reconcile.namespace import require_namespace
from tests.helpers.servers import PATIENCE, child, free_ports

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [
    *(DOCS / name for name in ("tutorial.md", "reconcile.md", "reports.md")),
    *sorted((DOCS / "howto").glob("*.md")),
]

PORTS = ["8000", "9191", "9192"]
SERVERS = ("flask ", "gunicorn ", "uvicorn ")
DOCKERFILE = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "ENV", "CMD"}

# What a notebook does with its cells: one loop runs all of them, and they share their names
CELLS = """
import ast, asyncio, sys

async def main():
    names = {}
    for cell in sys.argv[1:]:
        code = compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if waits := eval(code, names):
            await waits

asyncio.run(main())
"""


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page, in order: language and text."""
    yield from re.findall(r"^```([\w{}]+)\n(.*?)^```$", page.read_text(), flags=re.M | re.S)


class Reader:
    """Plays a page in a directory of its own."""

    def __init__(self, page: Path, directory: Path, stack: ExitStack) -> None:
        self.directory, self.stack = directory, stack
        self.cells = [text for kind, text in blocks(page) if kind == "python" and not named(text)]
        self.consoles = "".join(text for kind, text in blocks(page) if kind == "console")
        self.ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        self.program: subprocess.Popen[str] | None = None
        self.serves = False  # the program runs until Ctrl-C
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # gunicorn keeps a socket at home
        self.env = os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1", "HOME": str(directory)}

    def start(self, code: str, *command: str) -> None:
        self.launch([sys.executable, *command])
        self.serves = any(text in code for text in ("sync.run(", "Event().wait(", "uvicorn.run("))

    def serve(self, line: str) -> None:
        program, *arguments = shlex.split(line)
        self.launch([str(Path(sys.executable).parent / program), *arguments])
        self.serves = True

    def launch(self, command: list[str]) -> None:
        self.end()
        self.program = self.stack.enter_context(
            child(command, stdout=subprocess.PIPE, cwd=self.directory, env=self.env)
        )

    def end(self) -> None:
        """What runs has printed no more than the page shows, and ends well: by itself, or at Ctrl-C."""
        if self.program is None:
            return
        if self.serves:
            self.program.send_signal(signal.SIGINT)
        assert self.program.stdout is not None
        assert self.program.stdout.read() == ""
        assert self.program.wait(60) == 0
        self.program = None

    def python(self, text: str) -> None:
        if file := named(text):
            (self.directory / file).write_text(text)
            if file.startswith("test_"):
                self.run(f"python -m pytest -q -p no:cacheprovider {file}")
            elif f" python {file}\n" not in self.consoles:
                self.start(text, file)
        elif self.cells:
            self.start("", "-c", CELLS, *self.cells)
            self.cells = []

    def text(self, text: str) -> None:
        assert self.program is not None
        assert self.program.stdout is not None
        printed = [self.program.stdout.readline() for _ in text.splitlines()]
        assert "".join(printed) == text

    def sh(self, text: str) -> None:
        if again := re.fullmatch(r"python (\w+\.py)\n", text):
            self.start((self.directory / again[1]).read_text(), again[1])
        elif text.startswith(SERVERS):
            self.serve(text)
        else:
            self.run(text)

    def dockerfile(self, text: str) -> None:
        """An image of what runs here."""
        given = dict(line.split(maxsplit=1) for line in text.splitlines() if line)
        assert set(given) <= DOCKERFILE
        assert all((self.directory / file).exists() for file in given["COPY"].split()[:-1])
        assert self.program is not None
        assert isinstance(self.program.args, list)
        # a list, so that signals reach it
        assert json.loads(given["CMD"]) == ["python", *self.program.args[1:]]

    def yaml(self, text: str) -> None:
        """An object of Kubernetes, or some lines of a container, whose probes find what runs here."""
        for one in yaml.safe_load_all(text):
            containers = [one]
            if "kind" in one:
                assert {"apiVersion", "metadata", "spec"} <= set(one)
                containers = one["spec"]["template"]["spec"]["containers"]
            for container in containers:
                ports = {port["containerPort"] for port in container.get("ports", ())}
                probes = [
                    container[name]["httpGet"] for name in container if name.endswith("Probe")
                ]
                assert len(probes) == 2
                for probe in probes:
                    assert probe["port"] in ports or not ports
                    self.run(f"curl -sf http://127.0.0.1:{probe['port']}{probe['path']}", PATIENCE)

    def console(self, text: str) -> None:
        for line, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, flags=re.M):
            said = self.run(line, patience=PATIENCE if self.serves else 0)
            assert said.rstrip("\n") == shown.rstrip("\n")

    def run(self, script: str, patience: float = 0) -> str:
        """What the commands print. Until `patience` is over they may find a server that is not up yet."""
        until = time.monotonic() + patience
        while True:
            done = subprocess.run(
                ["bash", "-euc", script],
                cwd=self.directory,
                env=self.env,
                capture_output=True,
                text=True,
                timeout=60,
            )
            if done.returncode == 0 or time.monotonic() > until:
                break
            time.sleep(0.1)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def named(text: str) -> str:
    """The file that a block is saved as; its first line says so."""
    found = re.match(r"# ([\w.]+\.py)\n", text)
    return found[1] if found else ""


@pytest.mark.once
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_prints_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    if "unshare " in page.read_text():
        require_namespace()
    played = 0
    with ExitStack() as stack:
        reader = Reader(page, tmp_path, stack)
        for kind, text in blocks(page):
            play = getattr(reader, kind, None)
            if play is not None:
                play(re.sub("|".join(PORTS), lambda port: reader.ports[port[0]], text))
                played += 1
        reader.end()
    assert played


def test_the_reference_has_every_public_name_once() -> None:
    text = (DOCS / "api.md").read_text()
    described = re.findall(r"^\.\. \w+:: datasync\.(\w+)(?:\(\))?$", text, re.M)
    assert sorted(described) == sorted(datasync.__all__)


def test_the_site_leads_to_every_page() -> None:
    trees = [text for kind, text in blocks(DOCS / "index.md") if kind == "{toctree}"]
    listed = set(re.findall(r"^[\w/-]+$", "\n".join(trees), re.M))
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")}
    assert pages - {"index"} == listed
