"""`datasync doctor`: examined from outside, and the exit code by the worst finding."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
from typing import Any

import pytest

from datasync import DataSync, Source
from datasync.cli import doctor
from datasync.findings import Finding, Severity
from datasync.kvdbsync.memory import MemorySource
from datasync.testing.faults.source import FaultySource
from tests.helpers.certificates import Authority
from tests.helpers.command_line import Command, Result, Shell
from tests.helpers.grpc.agents import agent as grpc_agent
from tests.helpers.servers import free_ports, listening, require


def test_a_store_that_is_well(cli: Command) -> None:
    assert cli("put", "sqlite:///a.db", "config/mtu", "1500").code == 0
    for options in ([], ["--prefix", "config/"], ["--label", "vpp1"]):
        result = cli("doctor", "sqlite:///a.db", *options)
        assert (result.code, result.err) == (0, ""), result.out
        heads = [line.split(":")[0].split() for line in result.out.splitlines()]
        assert heads == [
            ["ok", "reachable"],
            ["ok", "follow"],
            ["ok", "write"],
            ["ok", "library"],
            ["ok", "disk"],
        ]
    # nothing was written, and no store is made
    assert cli("ls", "sqlite:///a.db").out == "config/mtu\n"
    missing = cli("doctor", "sqlite:///b.db")
    assert (missing.code, missing.err) == (1, "")
    assert missing.out.startswith("error    reachable: there is no file ")
    assert missing.out.endswith("\n         -> name the file to be read\n")
    assert not pathlib.Path("b.db").exists()


def test_each_finding_is_an_object_with_json(cli: Command) -> None:
    [port] = free_ports(1)
    result = cli("doctor", f"etcd://127.0.0.1:{port}", "--json")
    assert result.code == 1
    [finding] = [json.loads(line) for line in result.out.splitlines()]
    assert finding == {
        "about": "reachable",
        "severity": "error",
        "text": f"127.0.0.1:{port}: connection refused",
        "advice": "check the address, and that etcd runs there",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written(cli: Command) -> None:
    assert cli("put", "sqlite:///a.db", "k", "v").code == 0
    pathlib.Path("a.db").chmod(0o400)
    result = cli("doctor", "sqlite:///a.db")
    assert result.code == 1
    assert "error    write: " in result.out


def test_a_store_that_is_only_read(cli: Command) -> None:
    assert cli("put", "sqlite:///a.db", "k", "v").code == 0
    result = cli("doctor", "sqlite:///a.db?immutable=1")
    assert result.code == 0
    assert "ok       write: takes no writes" in result.out


class Sick(MemorySource):
    """A store that has something to say of itself."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__()
        self.findings = findings

    async def diagnose(self, key: str) -> tuple[Finding, ...]:
        return self.findings


@pytest.mark.parametrize(
    ("severities", "code"),
    [
        ([Severity.OK], 0),
        ([Severity.OK, Severity.WARNING, Severity.OK], 3),
        ([Severity.ERROR, Severity.WARNING], 1),
    ],
)
def test_the_exit_code_tells_the_worst(
    cli: Command, monkeypatch: pytest.MonkeyPatch, severities: list[Severity], code: int
) -> None:
    sick = Sick(*(Finding("it", severity, "text\x1b[31m", "mend it") for severity in severities))
    monkeypatch.setattr(doctor, "existing", lambda url: sick)
    result = cli("doctor", "memory://")
    assert result.code == code
    assert result.out.count("-> mend it") == len(severities)
    assert "\x1b" not in result.out


def test_one_that_hangs_is_told_within_its_time(
    cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hanging(url: str) -> Source:
        source = FaultySource()
        source.hang()
        return source

    monkeypatch.setattr(doctor, "existing", hanging)
    result = cli("doctor", "memory://", "--timeout", "0.1")
    assert result.code == 1
    assert "no answer within 0.1 s" in result.out


def test_a_foreign_server_is_told(shell: Shell) -> None:
    async def main() -> Result:
        async def hello(reader: Any, writer: Any) -> None:
            writer.write(b"220 mail ready\r\n")
            await reader.read()

        async with listening(hello) as port:
            return await asyncio.to_thread(
                shell.run, "doctor", f"redis://127.0.0.1:{port}?timeout=1"
            )

    result = asyncio.run(main())
    assert result.code == 1
    assert result.out.startswith("error    reachable: ")


def test_a_status_page_and_an_agent(shell: Shell) -> None:
    async def asked(*words: str) -> Result:
        return await asyncio.to_thread(shell.run, "doctor", *words)

    async def main() -> None:
        async with DataSync("memory://") as sync:
            readonly = (await sync.serve_status("127.0.0.1:0")).url
            result = await asked(readonly)
            assert (result.code, result.err) == (0, ""), result.out
            assert "ok       server: datasync " in result.out
            assert "ok       clock: " in result.out
            assert "ok       write: takes no writes" in result.out
            writable = (await sync.serve_status("127.0.0.1:0", writable=True)).url
            assert "ok       write: may be written" in (await asked(writable)).out
            assert not [kv async for kv in sync.list()]

        waiting = DataSync("memory://")
        url = (await waiting.serve_status("127.0.0.1:0")).url
        result = await asked(url, "--timeout", "2")
        assert result.code == 1
        assert "error    reachable: " in result.out
        assert "is not complete yet" in result.out
        await waiting.aclose()

        async with grpc_agent("?initial=empty") as agent:
            result = await asked(agent.url)
            assert (result.code, result.err) == (0, ""), result.out
            assert result.out.count("\n") == 3

    asyncio.run(main())


def test_an_agent_is_asked_as_its_clients_do(cli: Command) -> None:
    result = cli("doctor", "rest://127.0.0.1:9191")
    assert result.code == 2
    assert "ask it as its clients do: http://host:port" in result.err


# -- a certificate of its own ----------------------------------------------------------------------

SPEAKING_TLS = [
    "https://{}",
    "grpcs://{}",
    "grpcs+watch://{}",
    "etcds://{}",
    "rediss://{}",
    "redis+cluster://{}",
    "kafkas://{}/topic",
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    openssl = require("openssl", "apt-get install -y openssl")
    made = Authority(openssl, tmp_path_factory.mktemp("own") / "ours")
    for name, days in (("server", 30), ("soon", 10), ("expired", -1)):
        made.issue(name, days)
    return made


def showing(url: str, authority: Authority, cert: str, key: str = "") -> str:
    """The URL of a client that shows that certificate."""
    more = "&tls=1" if url.startswith("redis+") else ""
    return (
        f"{url}?ca={authority.ca}&cert={authority.cert(cert)}&key={authority.key(key or cert)}"
        f"{more}"
    )


@pytest.mark.parametrize("transport", SPEAKING_TLS)
def test_an_own_certificate_is_told_before_a_server_is_asked(
    cli: Command, authority: Authority, transport: str
) -> None:
    [port] = free_ports(1)
    url = transport.format(f"127.0.0.1:{port}")  # where nobody listens
    result = cli("doctor", showing(url, authority, "soon"), "--timeout", "2")
    assert (result.code, result.err) == (1, "")
    assert result.out.startswith(f"warning  certificate: this client's ({authority.cert('soon')}) ")
    assert "error    reachable: " in result.out

    # one that cannot be used ends it: there is no source without it
    result = cli("doctor", showing(url, authority, "missing", "soon"))
    assert (result.code, result.err) == (1, "")
    assert result.out == (
        f"error    certificate: this client's: {authority.cert('missing')} cannot be read "
        "(No such file or directory)\n"
        "         -> see what cert= and key= name, and let this user read it\n"
    )
    result = cli("doctor", showing(url, authority, "soon", "server"), "--json")
    assert (result.code, result.err) == (1, "")
    [finding] = [json.loads(line) for line in result.out.splitlines()]
    assert (finding["about"], finding["severity"]) == ("certificate", "error")
    assert "does not belong to the key" in finding["text"]


def test_what_else_is_wrong_with_the_url_is_an_error_as_ever(
    cli: Command, authority: Authority
) -> None:
    for url in (
        showing("redis://127.0.0.1", authority, "soon"),  # which does not speak TLS
        showing("etcds://127.0.0.1", authority, "soon") + "&what=1",
        f"etcds://127.0.0.1?cert={authority.cert('soon')}",
        "etcds://127.0.0.1?ca=missing.pem",
    ):
        result = cli("doctor", url)
        assert (result.code, result.out) == (2, ""), url
        assert result.err


def test_a_server_that_wants_a_certificate(shell: Shell, authority: Authority) -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            await sync.ready(60)
            page = showing("https://127.0.0.1:0", authority, "server")
            url = (await sync.serve_status(page)).url

            async def asked(name: str) -> tuple[int, list[list[str]]]:
                result = await asyncio.to_thread(shell.run, "doctor", showing(url, authority, name))
                lines = [line for line in result.out.splitlines() if line[0] != " "]
                return result.code, [line.replace(":", "").split()[:4] for line in lines]

            code, lines = await asked("soon")
            assert code == 3
            assert lines[0] == ["warning", "certificate", "this", "client's"]
            assert lines[-1] == ["ok", "certificate", "that", "of"]
            code, lines = await asked("expired")
            assert code == 1
            assert [line[:2] for line in lines] == [
                ["error", "certificate"],
                ["error", "reachable"],
            ]

    asyncio.run(main())
