"""The Markdown files: their links lead somewhere, their code is Python,
their tables are what the code says.
"""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest

import bench.__main__ as runner
from bench.saved import load
from tools import performance, tables

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def outside_fences(text: str) -> str:
    return re.sub(r"^( *)(```+).*?^ *\2 *$", "", text, flags=re.M | re.S)


def anchors(document: Path) -> set[str]:
    """The anchors of the headings, as code hosts make them from the text."""
    headings = re.findall(r"^#+ +(.+?) *$", outside_fences(document.read_text()), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def python_blocks(document: Path) -> list[str]:
    found = re.findall(r"^( *)```python\n(.*?)^ *```", document.read_text(), flags=re.M | re.S)
    return [textwrap.dedent(code) for _, code in found]


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_relative_links_lead_to_a_file_and_a_heading(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", outside_fences(document.read_text())):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_every_logger_is_documented() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    loggers = set(re.findall(r'logger\("([\w.]+)"\)', source))
    assert "datasync.watch" in loggers
    documented = set(re.findall(r"`(datasync[\w.]*)`", (ROOT / "docs/logging.md").read_text()))
    assert loggers == documented


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_python_blocks_compile(document: Path) -> None:
    for code in python_blocks(document):
        compile(code, str(document), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_walk_of_a_write_names_what_there_is() -> None:
    text = (
        (ROOT / "ARCHITECTURE.md")
        .read_text()
        .partition("## One confirmed write")[2]
        .partition("\n## ")[0]
    )
    named = re.findall(r"`([\w/]+\.py)`\s+`(\w+)\.(\w+)`", text)
    assert len(named) > 25
    for file, kind, function in named:
        tree = ast.parse((ROOT / "src" / "datasync" / file).read_text())
        kinds = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind]
        methods = {
            node.name
            for node in ast.walk(kinds[0])
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert function in methods, f"{file}: {kind}.{function}"


def test_the_table_of_capabilities_is_what_the_sources_declare() -> None:
    text = tables.GUARANTEES.read_text()
    assert text == tables.with_table(text), "run: make docs"


def test_the_table_covers_every_built_in_scheme() -> None:
    from datasync.transports import _BUILT_IN

    assert set(tables.REST_OF_URL) == set(_BUILT_IN)


def test_the_page_on_performance_says_what_the_run_beside_it_says() -> None:
    text = performance.PAGE.read_text()
    assert text == performance.with_tables(text, load(performance.RUN)), "run: make performance"
    shown = set(re.findall(r"<!-- (\w+): begin -->", text))
    assert shown == {"machine", *runner.names()}, "each benchmark has its place on the page"


def test_every_source_has_a_section_on_sizing() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    sources = set(index.partition(":caption: Sources\n\n")[2].partition("\n```")[0].split())
    sizing = performance.PAGE.read_text().partition("\n## Sizing\n")[2]
    named = set(re.findall(r"\((\w+)\.md#sizing\)", sizing))
    assert named == sources - {"transports"}  # how to write one


def test_the_map_names_every_file_of_the_engine_and_no_other() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    files = {
        str(path.relative_to(ROOT / "src/datasync"))
        for path in (ROOT / "src/datasync").rglob("*.py")
    }
    named = set(re.findall(r"`([\w/]+\.py)`", text.partition("## Where")[0]))
    by_folder = (
        "cli/",
        "codec/",
        "demo/",
        "terminal/",
        "testing/",
        "kvdbsync/etcd/",
        "kvdbsync/files/",
        "kvdbsync/redis/",
        "kvdbsync/sqlite/",
        "msgsync/kafka/",
    )
    expected = {
        file
        for file in files
        if not file.startswith(by_folder)
        and not file.rpartition("/")[2].startswith("__")
        and "_pb2" not in file
    }
    assert named == expected
