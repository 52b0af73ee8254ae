"""The wheel as a user gets it: installed without extras in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
USE = """
import asyncio, importlib.util, sys
import datasync

extras = ["apsw", "orjson", "google.protobuf", "yaml", "argcomplete", "jinja2", "rich", "watchfiles", "pydantic"]
present = [name for name in extras if name.split(".")[0] in sys.modules or importlib.util.find_spec(name.split(".")[0])]
assert present == [], f"without extras these should not be there: {present}"

async def main(url):
    seen = []
    async with datasync.DataSync(url) as sync:
        @sync.watcher("config/")
        async def config(event):
            seen.extend((change.key, change.value) for change in event.changes)
        await sync.ready(60)
        await sync.put("config/mtu", b"1500", confirm=True)
        kept = await sync.get("config/mtu")
    assert seen == [("config/mtu", b"1500")] and kept.value == b"1500", (seen, kept)

for url in sys.argv[1:]:
    asyncio.run(main(url))
print("works", datasync.__file__)
"""


def call(*command: str | Path, cwd: Path) -> str:
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "DATASYNC"))
    }
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.once
def test_the_wheel_works_with_nothing_but_msgspec(tmp_path: Path) -> None:
    call(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT, cwd=tmp_path
    )
    (wheel,) = tmp_path.glob("datasync-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "datasync/py.typed" in names
    assert {name.split("/")[0] for name in names} == {
        "datasync",
        wheel.name.rsplit("-", 3)[0] + ".dist-info",
    }

    # the pip that is here fills it: to bring one there takes longer than all that it would install
    call(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    call(*pip, "install", "-q", wheel, cwd=tmp_path)
    installed = call(*pip, "freeze", cwd=tmp_path).splitlines()
    assert sorted(line.split("==")[0].split(" ")[0] for line in installed) == [
        "datasync",
        "msgspec",
    ]

    said = call(
        python,
        "-W",
        "error::DeprecationWarning",
        "-c",
        USE,
        "memory://",
        f"sqlite:///{tmp_path}/store.db",
        cwd=tmp_path,
    )
    assert said.startswith(f"works {tmp_path}")
    version = wheel.name.split("-")[1]
    assert (
        call(python, "-c", "import datasync; print(datasync.__version__)", cwd=tmp_path).strip()
        == version
    )
    assert call(tmp_path / "env" / "bin" / "datasync", "--version", cwd=tmp_path).split() == [
        "datasync",
        version,
    ]
    assert "memory" in call(tmp_path / "env" / "bin" / "datasync", "capabilities", cwd=tmp_path)


def test_it_works_where_posix_is_not(tmp_path: Path) -> None:
    """As on Windows, as far as that can be played here: no fork, and none of these modules."""
    code = """
import os, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
del os.register_at_fork, os.fork
import asyncio, datasync

async def main(url):
    async with datasync.DataSync(url) as sync:
        watch = sync.watch("all", "")
        await sync.put("a", b"1")
        async for event in watch:  # the RESYNC may be of the moment before
            if event.changes:
                print(event.changes[0].key)
                break

for url in ("memory://", "sqlite:///a.db"):
    asyncio.run(main(url))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.returncode) == ("a\na\n", 0), done.stderr
