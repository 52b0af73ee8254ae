"""The README: short where it has to be, and its commands and example do what it says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from datasync.cli import COMMANDS
from tests.helpers.servers import child

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

# What `python -m asyncio` does with a statement that awaits
RUN = """
import ast, asyncio, sys
code = compile(sys.argv[1], "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
asyncio.run(eval(code))
"""


def block(language: str, containing: str) -> str:
    """The one fenced block of a language that contains a text."""
    (found,) = [
        code
        for code in re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)
        if containing in code
    ]
    return str(found)


def test_it_opens_with_three_sentences_and_the_two_commands() -> None:
    _, opening, commands = README.split("\n\n")[:3]
    assert len(re.findall(r"[.](?=\s|$)", opening)) == 3
    assert re.findall(r"^make \w+", commands, flags=re.M) == ["make demo", "make test"]


def test_continuous_integration_runs_the_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "\nmake lint\nmake test\nmake test-all\nmake check-long\n" in script
    assert "export DATASYNC_REQUIRE_SERVERS=1" in script


def test_every_command_and_every_page_is_named() -> None:
    (row,) = re.findall(r"^\| command line \| (.*) \|$", README, flags=re.M)
    assert set(row.partition(": ")[2].split(", ")) == {command.name for command in COMMANDS}

    pages = {f"docs/{path.relative_to(ROOT / 'docs')}" for path in ROOT.glob("docs/**/*.md")}
    assert pages - {"docs/index.md"} <= set(re.findall(r"\((docs/[^)#]*)", README))


def test_the_five_lines_print_what_another_process_writes(tmp_path: Path) -> None:
    example = block("python", "datasync.DataSync")
    assert len(example.splitlines()) == 5
    ast.parse(example)
    expected = block("text", "ResyncEvent").splitlines()
    writes = [line.split() for line in block("sh", "datasync put").splitlines()]
    command = [sys.executable, "-u", "-c", RUN, example]
    with child(command, stdout=subprocess.PIPE, cwd=tmp_path) as reader:
        assert reader.stdout is not None
        printed = [reader.stdout.readline().strip()]
        for _, *arguments in writes:
            # one write at a time: two of them between two looks of the reader might be folded into
            # one event
            subprocess.run(
                [sys.executable, "-m", "datasync", *arguments], cwd=tmp_path, check=True, timeout=60
            )
            printed.append(reader.stdout.readline().strip())
        assert printed == expected
