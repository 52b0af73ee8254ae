"""Programs that a command runs."""

from __future__ import annotations

import asyncio
import pathlib
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from datasync.cli.programs import run_program
from datasync.testing.contract import eventually

Run = Callable[[Coroutine[Any, Any, None]], None]

START = asyncio.create_subprocess_exec


@pytest.mark.parametrize("name", ["./script.sh", "./none.sh"])
def test_a_program_that_is_cancelled_as_it_starts_is_ended_in_order(
    run: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It runs already when asyncio hands it over."""
    script = tmp_path / "script.sh"
    script.write_text(
        "#!/bin/sh\ntrap 'touch ended; exit' TERM\ntouch began\nwhile :; do sleep 0.01; done\n"
    )
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    begun, let = asyncio.Event(), asyncio.Event()

    async def slowly(*words: str, **options: Any) -> Process:
        begun.set()
        try:
            return await START(*words, **options)
        finally:
            await let.wait()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)

    async def main() -> None:
        running = asyncio.ensure_future(run_program([name]))
        await begun.wait()
        if name == "./script.sh":
            await eventually((tmp_path / "began").exists)
        running.cancel()
        await asyncio.sleep(0)
        let.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (tmp_path / "ended").exists() is (name == "./script.sh")

    run(main())
