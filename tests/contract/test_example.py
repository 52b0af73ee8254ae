"""The transport of docs/transports.md, as somebody else would install it, against the suite."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from datasync import BadUrl
from datasync.testing.contract import ContractSuite, Store
from datasync.transports import open_url, schemes

DOCUMENT = Path(__file__).parents[2] / "docs" / "transports.md"


def blocks(language: str) -> list[str]:
    """The code blocks of that language in the document."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$",
        DOCUMENT.read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )


@pytest.fixture(scope="module", autouse=True)
def installed() -> Iterator[None]:
    """The example on the path as a distribution of its own, with its entry point."""
    with tempfile.TemporaryDirectory() as site:
        Path(site, "files_transport.py").write_text(blocks("python")[0], encoding="utf-8")
        info = Path(site, "files_transport-1.0.dist-info")
        info.mkdir()
        info.joinpath("METADATA").write_text(
            "Metadata-Version: 2.1\nName: files-transport\nVersion: 1.0\n"
        )
        (toml,) = blocks("toml")
        group, name = (
            re.search(r'entry-points\."(.*?)"', toml),
            re.search(r'^(\w+) = "(.*)"', toml, re.MULTILINE),
        )
        assert group is not None
        assert name is not None
        info.joinpath("entry_points.txt").write_text(f"[{group[1]}]\n{name[1]} = {name[2]}\n")
        sys.path.insert(0, site)
        try:
            yield
        finally:
            sys.path.remove(site)
            sys.modules.pop("files_transport", None)


class TestFiles(ContractSuite):
    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        with tempfile.TemporaryDirectory() as parent:
            real, link = f"{parent}/real", f"{parent}/link"
            os.mkdir(real)

            async def lose() -> None:
                os.unlink(link)

            async def restore() -> None:
                os.symlink(real, link)

            await restore()
            yield Store(
                url=f"files://{link}?poll=0.01",
                direct=f"files://{real}?poll=0.01",
                lose=lose,
                restore=restore,
            )


def test_the_scheme_is_known() -> None:
    assert "files" in schemes()
    assert open_url("files:///tmp").name == "files:///tmp"
    with pytest.raises(BadUrl, match="pol"):
        open_url("files:///tmp?pol=1")


def test_the_last_block_runs() -> None:
    exec(compile(blocks("python")[2], str(DOCUMENT), "exec"), {"__name__": "example"})
