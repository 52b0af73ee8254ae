"""The agent and its controller do what they say, as processes of their own on one file; the other
examples have tests of their own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from datasync import DataSync
from tests.helpers.servers import child

EXAMPLES = Path(__file__).parent.parent / "examples"
TAKEN_BACK = "routes [('delete', 'config/route/10.9.0.0')]"


def command(example: str, url: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / example), url]


def test_the_controller_configures_the_agent_from_another_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/agent.db"

    async def leave_a_status_of_before() -> None:
        async with DataSync(url, label="vpp1") as sync:
            await sync.put("status/route/10.0.0.0", "no interface eth0")
            await sync.put("status/route/10.9.0.0", "in force")

    asyncio.run(leave_a_status_of_before())
    with child(command("agent.py", url), stdout=subprocess.PIPE, cwd=tmp_path) as agent:
        assert agent.stdout is not None
        lines = [agent.stdout.readline().strip()]
        controller = subprocess.run(
            command("controller.py", url), capture_output=True, text=True, timeout=60
        )
        assert (controller.returncode, controller.stderr) == (0, "")
        while lines[-1] not in {TAKEN_BACK, ""}:
            lines.append(agent.stdout.readline().strip())
        agent.send_signal(signal.SIGINT)
        agent.wait(60)

    assert controller.stdout.splitlines()[1:] == [
        "route 10.0.0.0 in force",
        "route 10.9.0.0 no interface eth9",
    ]
    assert lines == [
        "routes []",
        "interface put eth0 None -> Interface(mtu=9000)",
        "routes [('put', 'config/route/10.0.0.0'), ('put', 'config/route/10.9.0.0')]",
        TAKEN_BACK,
    ]
    assert agent.returncode == 0


def test_every_example_is_run() -> None:
    others = (EXAMPLES.parent / "tests" / "examples").glob("test_*.py")
    tested = {"agent.py", "controller.py", *(path.name.removeprefix("test_") for path in others)}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested
