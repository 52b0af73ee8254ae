"""Files of configuration, written as programs write them: each edit replaces the file."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pathlib
from collections.abc import AsyncIterator
from typing import Any


def replace(path: str | os.PathLike[str], text: str | bytes) -> None:
    """Write a file under another name, and put it in place."""
    path = pathlib.Path(path)
    hidden = path.with_name(f".{path.name}.new")
    hidden.write_bytes(text.encode() if isinstance(text, str) else text)
    hidden.replace(path)


class JsonFile:
    """One JSON file whose names are the keys: `put`, `delete` and `txn` as a DataSync has them.

    rest: seconds for which it is left alone after each edit.
    """

    def __init__(self, path: pathlib.Path, rest: float = 0.015) -> None:
        self.path = path
        self.rest = rest
        replace(path, "{}")

    @contextlib.asynccontextmanager
    async def writer(self) -> AsyncIterator[JsonFile]:
        yield self

    async def put(self, key: str, value: bytes, /) -> None:
        await self.txn().put(key, value).commit()

    async def delete(self, key: str, /, *, prefix: bool = False) -> bool:
        txn = self.txn().delete(key, prefix=prefix)
        await txn.commit()
        return txn.existed

    def txn(self) -> Edit:
        return Edit(self)


class Edit:
    """Several changes that replace the file once."""

    def __init__(self, file: JsonFile) -> None:
        self._file = file
        self._changes: list[tuple[str, Any, bool]] = []
        self.existed = False

    def put(self, key: str, value: bytes) -> Edit:
        try:
            shown: Any = value.decode()
        except UnicodeDecodeError:
            shown = {"$base64": base64.b64encode(value).decode()}
        self._changes.append((key, shown, False))
        return self

    def delete(self, key: str, *, prefix: bool = False) -> Edit:
        self._changes.append((key, None, prefix))
        return self

    async def commit(self) -> None:
        content = json.loads(self._file.path.read_text())
        for key, value, prefix in self._changes:
            if value is not None:
                content[key] = value
                continue
            gone = [
                known for known in content if known == key or (prefix and known.startswith(key))
            ]
            self.existed = bool(gone)
            for known in gone:
                del content[known]
        replace(self._file.path, json.dumps(content))
        # an edit is done once the file is at rest: one that never is, is never read
        await asyncio.sleep(self._file.rest)
