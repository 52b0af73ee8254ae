"""`datasync status`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasync import DataSync, Failed, Outcomes, Pending
from datasync.testing.contract import eventually
from tests.helpers.command_line import Command, Result, Shell
from tests.helpers.files import replace
from tests.helpers.rest.gateways import answering
from tests.helpers.servers import Process, free_ports


def test_status(cli: Command, tmp_path: Path) -> None:
    [port] = free_ports(1)
    program = Path(__file__).parents[1] / "helpers" / "rest" / "page_agent.py"
    agent = Process([sys.executable, str(program), str(port), "60"], port, tmp_path)
    asyncio.run(agent.start())
    url = f"http://127.0.0.1:{port}"
    try:
        for key in ("config/break", "config/route/10.1.0.0-16", "config/acl/web"):
            request = urllib.request.Request(
                f"{url}/v1/keys/{key}?confirm=1", b"x\x1b[31m", method="PUT"
            )
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
        assert next(line for line in lines if line.startswith("access-lists")).split()[1:3] == [
            "refused",
            "keys",
        ]
        assert "    config/acl/web: port 443 is used by the management plane" in lines
        checked = cli("status", url, "--check")
        assert (checked.code, checked.err) == (1, "")
        troubles = checked.out.splitlines()
        assert "netlink: no buffer space available (ENOBUFS)" in troubles[0]
        assert troubles[0].startswith("routes: for ")
        assert (
            troubles[-1] == "access-lists: config/acl/web: port 443 is used by the management plane"
        )
        told = cli("status", url, "--json")
        [record] = [json.loads(line) for line in told.out.splitlines()]
        assert [watch["state"] for watch in record["watches"]] == [
            "following",
            "failing",
            "following",
            "following",
        ]
    finally:
        agent.end()
    for options in ([], ["--check"]):
        gone = cli("status", url, *options)
        assert (gone.code, gone.out) == (1, "")
    assert "connection refused" in gone.err
    assert gone.err.count("\n") == 1
    both = cli("status", url, "--check", "--json")
    assert both.code == 2
    assert "not allowed with argument" in both.err
    wrong = cli("status", "memory://")
    assert (wrong.code, wrong.err) == (
        2,
        "datasync: status asks a server, not memory://; write http://host:port\n",
    )


NASTY = "\x1b]0;gone\x07\x9b31m\u202e\u2066\r\n\x7f\u2028"


def foreign(text: str) -> bytes:
    """The status of a server that sends `text` wherever it can."""
    watch = {
        "name": text, "scopes": [text], "state": text, "backlog": 0, "events": 0, "changes": 0,
        "resync": {"reason": text, "duration": 0.1, "keys": 1, "at": 1.0},
        "failing": {"since": 1.0, "why": text, "attempt": 2, "keys": {text: text}},
    }  # fmt: skip
    source = {
        "name": text,
        "state": text,
        "since": 1.0,
        "revision": 1,
        "error": text,
        "reconnects": 0,
    }
    status = {
        "name": text, "version": text, "now": 1.0, "started": 1.0, "ready": True, "keys": 1,
        "revision": 1, "watchers": 1, "remote": [{"scopes": [text], "behind": 1}],
        "rate": {"step": 1.0, "until": 1.0, "values": []}, "sources": [source], "watches": [watch],
    }  # fmt: skip
    return json.dumps(status, ensure_ascii=False, indent=1).encode()


def test_what_a_foreign_server_sends_moves_no_cursor(shell: Shell) -> None:
    async def asked(body: bytes, *words: str) -> Result:
        headers = {"content-type": "application/json", "datasync-answer": str(len(body))}
        async with answering(200, body, headers) as url:
            return await asyncio.to_thread(shell.run, "status", url, *words)

    shown = asyncio.run(asked(foreign(NASTY)))
    assert shown.code == 0, shown.err
    assert shown.out.replace("\n", "").isprintable()
    assert "\\x1b]0;gone" in shown.out
    told = asyncio.run(asked(foreign(NASTY), "--json"))
    assert told.code == 0, told.err
    assert told.out.count("\n") == 1
    assert told.out.rstrip("\n").isprintable()
    assert json.loads(told.out) == json.loads(foreign(NASTY))
    wrong = asyncio.run(asked(b'"\x1b[2J\x9b31m"', "--json"))
    assert (wrong.code, wrong.out) == (1, "")
    assert "its status is not understood" in wrong.error


def test_it_needs_its_extra(shell: Shell) -> None:
    hide = "import sys; sys.modules['aiohttp'] = sys.modules['uvicorn'] = None; "
    without = ("-c", hide + "from datasync.cli import main; sys.exit(main())")
    for url in ("http://127.0.0.1:1", "sqlite:///a.db"):
        result = shell.run("status", url, python=without)
        assert result.code == 2
        assert "install it with: pip install 'datasync[rest]'" in result.error


def test_the_exit_code_of_a_check_tells_the_health(shell: Shell) -> None:
    def picture(
        *, ready: bool = True, source: str = "following", watch: str = "following"
    ) -> bytes:
        shown = json.loads(foreign("it"))
        shown["ready"] = ready
        shown["sources"][0] |= {"state": source, "error": None}
        shown["watches"][0] |= {"state": watch, "failing": None}
        return json.dumps(shown).encode()

    async def checked(body: bytes) -> Result:
        headers = {"content-type": "application/json", "datasync-answer": str(len(body))}
        async with answering(200, body, headers) as url:
            return await asyncio.to_thread(shell.run, "status", url, "--check")

    for body, code, said in (
        (picture(), 0, "it: all well\n"),
        (picture(watch="unattended"), 0, "it: all well\n"),
        (picture(ready=False), 1, "not ready: the state is not complete yet\n"),
        (picture(source="lost"), 1, "it: lost\n"),
        (picture(watch="overdue"), 1, "it: overdue\n"),
        (picture(source="loading", watch="waiting"), 1, "it: loading\nit: waiting\n"),
    ):
        result = asyncio.run(checked(body))
        assert (result.code, result.out, result.err) == (code, said, "")
    nasty = asyncio.run(checked(foreign(NASTY)))
    assert nasty.code == 1
    assert nasty.out.replace("\n", "").isprintable()


@contextlib.contextmanager
def page_agent(directory: Path) -> Iterator[tuple[str, Process]]:
    """The agent of the status page in a process of its own, and its URL."""
    [port] = free_ports(1)
    program = Path(__file__).parents[1] / "helpers" / "rest" / "page_agent.py"
    agent = Process([sys.executable, str(program), str(port), "3"], port, directory)
    asyncio.run(agent.start())
    try:
        yield f"http://127.0.0.1:{port}", agent
    finally:
        agent.end()


def put(url: str, key: str) -> None:
    """Write one key, whatever becomes of it."""
    request = urllib.request.Request(f"{url}/v1/keys/{key}?confirm=false", b"x", method="PUT")
    urllib.request.urlopen(request, timeout=60).close()


def test_watching_prints_a_line_for_each_change_where_nobody_looks(
    shell: Shell, tmp_path: Path
) -> None:
    with page_agent(tmp_path) as (url, agent):
        name = url.replace("http", "rest")
        running = shell.start("status", url, "--watch")
        running.wait_for(f"agent {name}: ready")
        assert [line.partition(" ")[2] for line in running.out.decode().splitlines()] == [
            f"{name}: following",
            "interfaces: following",
            "routes: following",
            "access-lists: following",
            "breaker: following",
            f"agent {name}: ready",
        ]
        put(url, "config/break")
        put(url, "config/acl/web")
        running.wait_for(
            "access-lists: following: refused; config/acl/web: port 443 is used by the management plane"
        )
        agent.end()
        running.wait_for(f"agent {name}: no answer: ")
        assert running.end() == 130
        assert running.err == b""
        text = running.out.decode()
        assert text.count("access-lists: ") == 2
        assert text.count("interfaces: ") == 1


def test_watching_on_a_terminal_draws_one_picture_over_the_other(
    shell: Shell, tmp_path: Path
) -> None:
    with page_agent(tmp_path) as (url, _):
        put(url, "config/break")
        put(url, "config/acl/web")
        shown = shell.in_terminal("status", url, "--watch", until="port 443", LINES="30")
        assert shown.startswith("\x1b[?1049h\x1b[?25l\x1b[H")
        assert shown.endswith("\x1b[?25h\x1b[?1049l")
        picture = shown.split("\x1b[H")[-1]
        assert "access-lists" in picture
        assert "and " not in picture
        short = shell.in_terminal("status", url, "--watch", until="more lines", LINES="6")
        rows = short.split("\x1b[H")[1].split("\x1b[J")[0].splitlines()
        assert len(rows) == 5
        assert "more lines; see: datasync status" in rows[-1]


def test_watching_somebody_who_never_answers_ends_as_any_other_command(shell: Shell) -> None:
    [port] = free_ports(1)
    result = shell.run("status", f"http://127.0.0.1:{port}", "--watch")
    assert (result.code, result.out) == (1, "")
    assert "connection refused" in result.error


def test_open_keys_are_shown_and_only_those_that_failed_are_trouble(shell: Shell) -> None:
    said = {"a/1": Pending("no eth0"), "a/2": Failed("busy"), "a/3": Failed()}

    async def main() -> None:
        async with DataSync("memory://") as sync:

            @sync.watcher("a/", name="w")
            async def handle(event: Any) -> None:
                raise Outcomes({change.key: said[change.key] for change in event.changes})

            async def ask(*options: str) -> Result:
                return await asyncio.to_thread(shell.run, "status", served.url, *options)

            served = await sync.serve_status("127.0.0.1:0")
            await sync.ready(60)
            await sync.put("a/1", b"1")
            await eventually(lambda: sync.status().watches[0].open)
            assert "    a/1: pending, no eth0" in (await ask()).out.splitlines()
            assert (await ask("--check")).code == 0
            await sync.txn().put("a/2", b"1").put("a/3", b"1").commit()
            await eventually(lambda: len(sync.status().watches[0].open) == 3)
            checked = await ask("--check")
            assert (checked.code, checked.out) == (1, "w: a/2: failed, busy\nw: a/3: failed\n")
            told = json.loads((await ask("--json")).out)
            assert told["watches"][0]["open"]["a/1"] == {"verdict": "pending", "reason": "no eth0"}

    asyncio.run(main())


def test_a_check_names_the_file_that_does_not_parse(shell: Shell, tmp_path: Path) -> None:
    directory = tmp_path / "agent"
    directory.mkdir()
    replace(directory / "net.yaml", "mtu: 1500")

    async def main() -> None:
        async with DataSync(f"file://{directory}/") as sync:
            sync.watcher("net/", name="net")(lambda event: None)
            served = await sync.serve_status("127.0.0.1:0")
            await sync.ready(60)
            assert (await asyncio.to_thread(shell.run, "status", served.url, "--check")).code == 0
            replace(directory / "net.yaml", "mtu: [")
            await eventually(lambda: sync.status().sources[0].error)
            checked = await asyncio.to_thread(shell.run, "status", served.url, "--check")
            assert checked.code == 1
            assert "net.yaml, line 2" in checked.out

    asyncio.run(main())
