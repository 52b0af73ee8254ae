"""The `$ curl` lines of a document, run as they stand there, save for the port."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

from tests.helpers.servers import Process, free_ports, require

__all__ = ["DOCUMENT", "README", "check"]

_ROOT = Path(__file__).parents[3]
DOCUMENT, README = _ROOT / "docs" / "rest.md", _ROOT / "README.md"


def check(document: Path, directory: Path) -> int:
    """Start what the document starts, and assert that each line prints what stands below it;
    how many there are.
    """
    require("curl", "apt-get install -y curl")
    [port] = free_ports(1)
    text = document.read_text().replace("9191", str(port))
    if document is README:
        [line] = re.findall(r"```sh\ndatasync (serve .*?)\n```", text)
        words = ["-m", "datasync", *line.replace("sqlite:///", f"sqlite:///{directory}/").split()]
    else:
        script = directory / "agent.py"
        script.write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
        words = [str(script)]
    agent = Process([sys.executable, *words], port, directory)
    asyncio.run(agent.start())
    shown = 0
    try:
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
            for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, _, expected = example.partition("\n")
                done = subprocess.run(
                    ["bash", "-c", line.replace("curl ", "curl -sS ", 1)],
                    capture_output=True,
                    text=True,
                    timeout=20,
                )
                assert (done.stdout + done.stderr).strip() == expected.strip(), line
                shown += 1
    finally:
        agent.end()
    return shown
