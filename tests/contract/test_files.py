"""The contract suite on file://, whose writes are edits of the file."""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from collections.abc import AsyncIterator

from datasync.testing.contract import ContractSuite, Store
from tests.helpers.files import JsonFile


class TestFiles(ContractSuite):
    """One file, reached through a link to its directory, so that it can be lost while edits go on."""

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        with tempfile.TemporaryDirectory() as directory:
            real, link = pathlib.Path(directory, "real"), pathlib.Path(directory, "link")
            real.mkdir()
            link.symlink_to(real)
            file = JsonFile(real / "all.json")

            async def lose() -> None:
                link.unlink()

            async def restore() -> None:
                link.symlink_to(real)

            yield Store(
                url=f"file://{link}/all.json?settle=0.005",
                direct=f"file://{real}/all.json?settle=0.005",
                writer=file.writer,
                lose=lose,
                restore=restore,
            )


del ContractSuite  # so that it is not collected itself
