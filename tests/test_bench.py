"""The tool that runs the benchmarks, over one that costs nothing, in a repository of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.comparison import paired, table, with_saved
from bench.go_programs import built
from bench.instructions import counted
from bench.rows import Line, Row, cost
from tests.helpers.servers import child

ROOT = Path(__file__).parent.parent
TOOL = [
    path for path in sorted((ROOT / "bench").glob("*.py")) if not path.name.startswith("bench_")
]

FAKE = """
from pathlib import Path
from bench.rows import Row
import speed
from speed import SPEED

def run(quick):
    compiled = Path(speed.__cached__).exists()
    Path("order").open("a").write(f"{SPEED:.0f}-{compiled}\\n")
    yield Row(what="work", unit="changes/s", ours=SPEED, beside={"plain": 200.0},
              case={"keys": 3}, also={"waited, ms": 2.0})
    yield Row(what="room", unit="B/key", ours=7.0)
"""
ENDLESS = """
import signal, subprocess, sys
from pathlib import Path
from bench.rows import Row

def run(quick):
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path("server").write_text(str(server.pid))
    try:
        yield Row(what="begun", unit="ms", ours=1.0)
        server.wait()
    finally:
        Path("cleaned").touch()
"""
BROKEN = """
def run(quick):
    yield from ()
    raise FileNotFoundError("etcd is missing; install it with: apt-get install etcd")
"""


def line(*ours: float, unit: str = "changes/s", **beside: list[float]) -> Line:
    return Line(what="work", unit=unit, case={}, ours=list(ours), beside=beside, also={})


def test_a_rate_costs_more_where_it_is_lower_and_a_time_where_it_is_higher() -> None:
    assert cost("changes/s", 50, 100) == 2
    assert cost("ms", 50, 100) == 0.5
    assert cost("B/key", 100, 50) == 2


def test_a_line_holds_each_run_against_what_stood_beside_it_there() -> None:
    runs = [
        Row(what="work", unit="ms", ours=ours, beside={"plain": plain}, case={"keys": 3})
        for ours, plain in ((2.0, 1.0), (30.0, 10.0), (8.0, 2.0))
    ]
    found = Line.of(runs[0])
    for row in runs[1:]:
        found.add(row)
    assert found.name == "work (keys 3)"
    assert found.median() == 8
    assert found.spread() == 28 / 8
    assert found.ratio() == 3
    assert Line.of(Row(what="alone", unit="ms", ours=1.0)).ratio() is None


def test_pairs_of_runs_are_compared_one_by_one() -> None:
    [found] = paired({"work": line(100, 200, 400)}, {"work": line(50, 160, 200)})
    assert found.cost == 2
    assert found.spread == (1.25, 2)
    shown = table([found], 1.1)
    assert "| work, changes/s | 200 | 160 | 2.00 | 1.25 to 2.00, **above the limit** |" in shown
    assert "above" not in table([found], 2.0)


def test_runs_of_another_machine_are_compared_by_what_stood_beside_both() -> None:
    then, now = line(100, plain=[200]), line(30, plain=[60])
    [found] = with_saved({"work": then}, {"work": now}, same_machine=False)
    assert (found.cost, found.by) == (1, "plain")
    [alone] = with_saved({"work": line(100)}, {"work": line(50)}, same_machine=False)
    assert alone.cost is None
    [alone] = with_saved({"work": line(100)}, {"work": line(50)}, same_machine=True)
    assert alone.cost == 2


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """The tool with other benchmarks, in a repository whose first commit is twice as slow."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "src").mkdir()
    for path in TOOL:
        if path.name != "beside.py":
            shutil.copy(path, tmp_path / "bench")
    (tmp_path / "bench" / "bench_fake.py").write_text(FAKE)
    (tmp_path / "bench" / "bench_endless.py").write_text(ENDLESS)
    (tmp_path / "bench" / "bench_broken.py").write_text(BROKEN)
    git(tmp_path, "init", "--quiet")
    for speed in (50.0, 100.0):
        (tmp_path / "src" / "speed.py").write_text(f"SPEED = {speed}\n")
        git(tmp_path, "add", "src", "bench/*.py")
        git(tmp_path, "commit", "--quiet", "-m", f"{speed}")
    yield tmp_path
    assert "bench-" not in git(tmp_path, "worktree", "list")


def git(place: Path, *words: str) -> str:
    names = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    return subprocess.run(
        ["git", *names, *words], cwd=place, check=True, capture_output=True, text=True
    ).stdout


def environment(place: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}


def tool(place: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, words)],
        cwd=place, env=environment(place), capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def test_runs_are_shown_as_medians_and_kept_one_by_one(project: Path) -> None:
    kept = project / "kept.json"
    done = tool(project, "--only", "fake", "--runs", "3", "--save", kept)
    assert done.returncode == 0, done.stderr
    machine, work, room = map(json.loads, done.stdout.splitlines())
    assert machine["bench"] == "machine"
    assert "PGO" in machine["build"]
    assert machine["versions"]["msgspec"]
    assert work == {
        "bench": "fake", "what": "work", "keys": 3, "unit": "changes/s", "ours": 100.0,
        "spread": 0.0, "plain": 200.0, "ratio": 2.0, "waited, ms": 2.0,
    }  # fmt: skip
    assert room["ours"] == 7
    assert "fake, run 2 of 3" in done.stderr

    found = json.loads(kept.read_text())["benchmarks"]["fake"]
    assert found["runs"] == 3
    assert found["lines"][0]["ours"] == [100.0] * 3
    assert found["revision"].startswith(git(project, "rev-parse", "HEAD")[:12])


def test_a_file_gains_the_benchmarks_of_a_later_run(project: Path) -> None:
    kept = project / "kept.json"
    assert tool(project, "--quick", "--only", "fake", "--save", kept).returncode == 0
    saved = json.loads(kept.read_text())
    saved["benchmarks"]["other"] = saved["benchmarks"]["fake"]
    kept.write_text(json.dumps(saved))
    assert tool(project, "--quick", "--only", "fake", "--save", kept).returncode == 0
    assert set(json.loads(kept.read_text())["benchmarks"]) == {"fake", "other"}

    saved["machine"]["python"] = "CPython 2.7.18"
    kept.write_text(json.dumps(saved))
    done = tool(project, "--quick", "--only", "fake", "--save", kept)
    assert done.returncode == 2
    said = f"error: {kept} is of another machine or of other versions; save to another file"
    assert done.stderr == f"python -m bench: {said}\n"


def test_a_revision_is_run_in_turn_and_its_tree_is_gone_after_that(project: Path) -> None:
    command = ["--quick", "--only", "fake", "--runs", "2"]
    done = tool(project, *command, "--compare", "HEAD~1")
    assert done.returncode == 0, done.stderr
    assert "| fake: work (keys 3), changes/s | 50 | 100 | 0.50 | 0.50 to 0.50 |" in done.stdout
    # here, there; then the other way round, and none of them has to compile itself
    order = (project / "order").read_text().split()
    assert order == ["100-True", "50-True", "50-True", "100-True"]
    done = tool(project, *command, "--compare", "HEAD~1", "--limit", "0.4")
    assert done.returncode == 1
    assert "above the limit" in done.stdout


def test_a_file_is_compared_with(project: Path) -> None:
    kept = project / "kept.json"
    assert tool(project, "--quick", "--only", "fake", "--save", kept).returncode == 0
    (project / "src" / "speed.py").write_text("SPEED = 60.0\n")
    done = tool(project, "--quick", "--only", "fake", "--compare", kept)
    assert done.returncode == 1
    assert "| 1.67 | against plain, **above the limit** |" in done.stdout
    assert "| fake: room, B/key | 7 | 7 | 1.00 |" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--compare", "nowhere"], "'nowhere' is neither a file that --save wrote nor a revision"),
        (["--compare", "README"], "README is not a run that --save wrote"),
        (["--save", "README"], "README is not a run that --save wrote"),
        (["--runs", "0"], "--runs must be an integer >= 1, got 0"),
    ],
)
def test_what_cannot_be_done_is_one_line(project: Path, words: list[str], said: str) -> None:
    (project / "README").write_text("# not JSON\n")
    done = tool(project, "--quick", "--only", "fake", *words)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_benchmark_that_fails_does_not_keep_the_others_from_running(project: Path) -> None:
    done = tool(project, "--quick", "--only", "broken", "--only", "fake", "--runs", "2")
    assert done.returncode == 1
    assert "etcd is missing; install it with: apt-get install etcd" in done.stderr
    assert "Traceback" not in done.stderr
    assert '"what": "work"' in done.stdout
    assert "broken, run 2" not in done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_what_it_started(project: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "bench", "--quick", "--only", "endless"]
    options = {"cwd": project, "env": environment(project), "stderr": subprocess.PIPE}
    with child(command, **options) as process:
        assert process.stderr is not None
        while "begun" not in process.stderr.readline():
            pass
        process.send_signal(how)
        rest = process.stderr.read()
        assert process.wait(60) == 130
    assert rest == "interrupted\n"
    assert (project / "cleaned").exists()
    ended((project / "server").read_text())


def test_instructions_are_the_difference_of_a_number_of_times_and_twice_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perf = tmp_path / "perf"
    perf.write_text(
        "#!/bin/sh\n"
        'for times; do :; done\n[ "$times" = true ] && times=0\n'
        'echo "$((90000 + 7 * times)),,instructions:u,1,100.00,," >&2\n'
    )
    perf.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    benchmark = types.ModuleType("bench.bench_fake")
    benchmark.__dict__["COUNTED"] = {"work": print}
    [row] = counted(benchmark)
    assert (row.what, row.unit, row.ours) == ("work, instructions", "instructions", 7)
    assert list(counted(types.ModuleType("bench.bench_other"))) == []


def test_what_a_machine_lacks_is_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    benchmark = types.ModuleType("bench.bench_fake")
    benchmark.__dict__["COUNTED"] = {"work": print}
    assert list(counted(benchmark)) == []
    assert built("cninfra") is None
    assert capsys.readouterr().err.splitlines() == [
        "a count of instructions is left out: perf cannot count here; apt-get install valgrind",
        "go is left out: it is not installed; go.dev/doc/install says how",
    ]


def ended(pid: str) -> None:
    """Wait until a process has ended."""
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and "Z" not in state(pid):
        assert time.monotonic() < deadline, "it runs on"
        time.sleep(0.02)


def state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
