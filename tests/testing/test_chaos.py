"""The chaos command on what needs no server: it finds nothing, and finds what is planted;
it leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from datasync.endpoints import TlsFiles
from datasync.kvdbsync.sqlite import clock
from datasync.testing.chaos import clock as chaos_clock
from datasync.testing.chaos import run
from datasync.testing.chaos.__main__ import main
from datasync.testing.chaos.agents import Agents
from datasync.testing.chaos.application import Acknowledged
from datasync.testing.chaos.certificates import Certificates
from datasync.testing.chaos.judge import judge
from datasync.testing.chaos.proxy import TcpProxy
from datasync.testing.chaos.run import play
from datasync.testing.chaos.schedule import draw
from datasync.testing.chaos.sqlite import SqliteStore
from datasync.testing.chaos.store import Log
from datasync.testing.chaos.stores import store_for
from datasync.testing.faults.store import EXACT
from datasync.testing.trace.recorder import Recorder
from tests.helpers.logs import logged
from tests.helpers.servers import commands_with

pytestmark = pytest.mark.once

Values = Mapping[str, bytes | None]


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_a_short_round_finds_nothing(
    scheme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        f"{scheme}://",
        "--minutes",
        "0",
        "--seconds",
        "3",
        "--seed",
        "1",
        "--keep",
        str(tmp_path),
    ]
    code = main(words)
    said = capsys.readouterr().out
    assert code == 0, said
    assert "nothing found" in said


def test_the_same_seed_draws_the_same_schedule() -> None:
    store = SqliteStore()
    try:
        first = draw(7, 3, store, 60.0)
        assert first == draw(7, 3, store, 60.0)
        assert first != draw(7, 4, store, 60.0)
        assert {step.kind for step in draw(7, 0, store, 600.0)} >= {
            "fault",
            "application",
            "agents",
        }
        assert {step.what for step in draw(7, 0, store, 600.0) if step.kind == "fault"} == set(
            store.faults
        )
    finally:
        asyncio.run(store.aclose())


def one_round() -> list[str]:
    """What a short round on SQLite finds."""

    async def main() -> list[str]:
        store = SqliteStore()
        try:
            await store.start()
            return list((await play(store, draw(1, 0, store, 2.0), 1)).findings)
        finally:
            await store.aclose()

    return asyncio.run(main())


def test_an_acknowledged_write_that_the_store_lost_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def forgetful(store: SqliteStore) -> Log:
        return [(revision, changes) for revision, changes in await whole(store) if revision % 5]

    whole = SqliteStore.log
    monkeypatch.setattr(SqliteStore, "log", forgetful)
    monkeypatch.setattr(SqliteStore, "agents", False)
    assert any(finding.startswith("honest-writes") for finding in one_round())


def test_agents_whose_reports_are_lost_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Agents, changes: Values, revision: int) -> None:
        whole(self, {key: raw for key, raw in changes.items() if "progress" not in key}, revision)

    whole = Agents.committed
    monkeypatch.setattr(Agents, "committed", forgetful)
    monkeypatch.setattr(run, "_PATIENCE", 5.0)
    assert "reports: rest: vpp0: reports nothing at the end" in "\n".join(one_round())


def test_a_clock_that_is_followed_is_found(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def one_step() -> None:
        store = SqliteStore()
        try:
            await store.start()
            await store.faults["clock step"].run(random.Random(3), 0.1)
        finally:
            await store.aclose()

    monkeypatch.setattr(chaos_clock, "_STEPS", (3_600.0,))
    asyncio.run(one_step())
    assert not logged(caplog)
    monkeypatch.setattr(clock, "_running", lambda: time.time())
    asyncio.run(one_step())
    assert [
        record for record in caplog.records if "the clock having been set" in record.getMessage()
    ]


@pytest.mark.parametrize(
    "fault", ["certificates renewed", "foreign certificate", "expired certificate"]
)
def test_files_of_tls_are_put_right_again_also_when_that_is_cancelled(
    tmp_path: Path, fault: str
) -> None:
    certificates = Certificates(tmp_path / "certificates")
    cert, key = certificates.server
    shown: set[bytes] = set()

    async def reload() -> None:
        shown.add(cert.read_bytes())

    async def main() -> None:
        first = cert.read_bytes()
        run = certificates.faults(TcpProxy(1), reload)[fault].run
        for number in range(8):
            task = asyncio.ensure_future(run(random.Random(number), 60.0))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            files = [Path(word.partition("=")[2]) for word in certificates.client.split("&")]
            for theirs in (files[1:], (cert, key)):
                TlsFiles(files[0], *theirs).read()
            assert fault == "certificates renewed" or cert.read_bytes() == first
        assert len(shown) == 2

    asyncio.run(main())


def judged(
    log: Log, acknowledged: list[Acknowledged], undone: list[Values], recorder: Recorder
) -> list[str]:
    lines = judge(recorder.trace, EXACT, [log], acknowledged, undone, [])
    return [line for line in lines if line.startswith(("honest-writes", "fresh"))]


def test_dishonest_answers_are_found() -> None:
    log: Log = [(1, {"a": b"1"}), (2, {"a": b"2"})]
    assert judged(log, [Acknowledged(0, 0, 2, {"a": b"2"})], [], Recorder()) == []
    assert judged(log, [Acknowledged(0, 0, 3, {"a": b"3"})], [], Recorder()) == [
        "honest-writes: 'a' was acknowledged at revision 3, and is not in the log"
    ]
    assert judged(log, [Acknowledged(0, 0, 1, {"a": b"2"})], [], Recorder()) == [
        "honest-writes: 'a' was acknowledged at revision 1, and is at 2"
    ]
    assert judged(log, [], [{"a": b"2"}], Recorder()) == [
        "honest-writes: 'a' was said to be not written, and is in the log"
    ]


def test_ctrl_c_ends_it_and_leaves_no_process(tmp_path: Path) -> None:
    words = [sys.executable, "-u", "-m", "datasync.testing.chaos", "sqlite://", "--minutes", "5"]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=env, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert b"SQLite" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert list(tmp_path.iterdir()) == []
    assert commands_with(tmp_path) == []


def test_a_scheme_that_nobody_knows_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["carrier-pigeon://"]) == 2
    assert "name one of: memory://" in capsys.readouterr().err
    assert store_for("memory://").left_out
