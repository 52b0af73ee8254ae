"""`datasync status`."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.servers import Process, free_ports

from .conftest import Command, Shell


def test_status(cli: Command, tmp_path: Path) -> None:
    [port] = free_ports(1)
    program = Path(__file__).parents[1] / "rest" / "page_agent.py"
    agent = Process([sys.executable, str(program), str(port), "60"], port, tmp_path)
    asyncio.run(agent.start())
    url = f"http://127.0.0.1:{port}"
    try:
        for key in ("config/break", "config/route/10.1.0.0-16", "config/acl/web"):
            request = urllib.request.Request(f"{url}/v1/keys/{key}?confirm=1", b"x\x1b[31m", method="PUT")
            try:
                urllib.request.urlopen(request, timeout=60).close()
            except urllib.error.HTTPError as error:
                error.close()
        shown = cli("status", url)
        assert shown.code == 0, shown.err
        lines = shown.out.splitlines()
        assert lines[0].startswith(f"rest://127.0.0.1:{port}  (datasync ")
        assert lines[1].startswith("103 keys, revision 4, ")
        assert lines[3].split() == ["source", "state", "for", "revision", "came", "back"]
        assert lines[4].split()[:2] == [f"rest://127.0.0.1:{port}", "following"]
        names = [line.split()[0] for line in lines[7:] if not line.startswith(" ")]
        assert names == ["interfaces", "routes", "access-lists", "breaker"]
        assert "RuntimeError: netlink: no buffer space available (ENOBUFS)" in shown.out
        assert next(line for line in lines if line.startswith("access-lists")).split()[1:3] == ["refused", "keys"]
        assert "    config/acl/web: port 443 is used by the management plane" in lines
        told = cli("status", url, "--json")
        [record] = [json.loads(line) for line in told.out.splitlines()]
        assert [watch["state"] for watch in record["watches"]] == ["following", "failing", "following", "following"]
    finally:
        agent.end()
    gone = cli("status", url)
    assert (gone.code, gone.out) == (1, "")
    assert "Connection refused" in gone.err
    assert gone.err.count("\n") == 1
    wrong = cli("status", "memory://")
    assert (wrong.code, wrong.err) == (2, "datasync: status asks a server, not memory://; write http://host:port\n")


def test_it_needs_its_extra(shell: Shell) -> None:
    hide = "import sys; sys.modules['aiohttp'] = sys.modules['uvicorn'] = None; "
    without = ("-c", hide + "from datasync.cli import main; sys.exit(main())")
    for url in ("http://127.0.0.1:1", "sqlite:///a.db"):
        result = shell.run("status", url, python=without)
        assert result.code == 2
        assert "install it with: pip install 'datasync[rest]'" in result.error
