"""The scripts of the Makefile: which Pythons are used, and what the checks find."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import bench.__main__ as runner
from tests.helpers.etcd.etcd_server import DEBIAN, program
from tests.helpers.kafka.kafka_server import jars
from tests.helpers.redis import redis_server

ROOT = Path(__file__).parent.parent
# what a benchmark starts; each skips the test where it is missing
SERVERS: dict[str, Callable[[], object]] = {
    "etcd": lambda: program(DEBIAN),
    "tools": lambda: program(DEBIAN),
    "kafka": jars,
    "redis": redis_server.program,
}
VERSION = f"3.{sys.version_info.minor}"


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def call(*command: str | Path, path: Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = {"PATH": f"{path}:/usr/bin:/bin", "HOME": str(path)}
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=100)


def test_pythons_leaves_out_what_does_not_start_or_is_too_old(tmp_path: Path) -> None:
    base = Path(sys.base_prefix) / "bin" / f"python{VERSION}"
    executable(
        tmp_path / "python3.29", "#!/bin/sh\necho 'python3.29: command not found' >&2\nexit 127\n"
    )
    executable(tmp_path / "python3.30", "#!/bin/sh\nexit 0\n")
    (tmp_path / f"python{VERSION}").symlink_to(base)
    lines = call(ROOT / "tools/pythons", path=tmp_path).stdout.splitlines()
    versions = [line.split(" ", 1)[0] for line in lines]
    assert VERSION in versions
    assert not {"3.29", "3.30"} & set(versions)
    assert versions == sorted(set(versions), key=lambda version: int(version.removeprefix("3.")))
    for line in lines:
        version, python = line.split(" ", 1)
        said = subprocess.run(
            [python, "-c", "import sys; print(sys.version_info[:2])"],
            capture_output=True,
            text=True,
        )
        assert said.stdout.strip() == str(tuple(map(int, version.split("."))))


def test_pythons_asks_the_version_manager_for_what_its_shims_do_not_start(tmp_path: Path) -> None:
    shim = "#!/bin/sh\nexit 127\n"
    executable(tmp_path / f"python{VERSION}", shim)
    executable(
        tmp_path / "pyenv",
        "#!/bin/sh\n"
        f'if [ "$1" = versions ]; then printf "3.9.1\\n{VERSION}.99\\nmine\\n"; exit; fi\n'
        f'[ "$PYENV_VERSION $*" = "{VERSION}.99 which python" ] && echo '
        f'"{sys.base_prefix}/bin/python{VERSION}"\n',
    )
    for hidden in ("/usr/bin", "/bin"):
        if (Path(hidden) / f"python{VERSION}").exists():
            pytest.skip(f"{hidden} has a Python {VERSION} of its own, which is found first")
    lines = call(ROOT / "tools/pythons", path=tmp_path).stdout.splitlines()
    assert [line.split(" ")[0] for line in lines].count(VERSION) == 1


def test_an_environment_for_a_python_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = call(ROOT / "tools/venv", "3.8", path=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "no usable Python 3.8; tools/pythons lists those that are\n"


def test_a_source_file_that_has_too_much_in_it_is_found(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "large.py").write_text("x = 1\n" * 401)
    (tmp_path / "src" / "large_pb2.py").write_text("x = 1\n" * 401)
    (tmp_path / "src" / "well_told.py").write_text('x = 1\n"""What it is for."""\n\n' * 400)
    done = call(sys.executable, ROOT / "tools/check_sizes.py", path=tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "src/large.py: 401 statements; above 400 a file has more than one job: split it"
    ]


@pytest.mark.apart
@pytest.mark.long
@pytest.mark.once
@pytest.mark.parametrize("name", runner.names())
def test_every_benchmark_runs_and_prints_json_lines(name: str) -> None:
    SERVERS.get(name, lambda: "")()
    command = [sys.executable, "-m", "bench", "--quick", "--only", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    seen = {json.loads(line)["bench"] for line in done.stdout.splitlines()}
    assert seen == {"machine", name}


def test_what_runs_before_a_commit_is_what_lint_runs() -> None:
    yaml = pytest.importorskip("yaml")
    [hooks] = [
        repo["hooks"]
        for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    ]
    before = {hook["entry"].replace(" --force-exclude", "") for hook in hooks}
    recipe = (ROOT / "Makefile").read_text().partition("\nlint: venv\n")[2].partition("\n\n")[0]
    linted = {line.strip().replace(" --check", "") for line in recipe.splitlines()}
    assert before == linted


@pytest.mark.parametrize(
    "file", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda file: file.name
)
def test_the_files_for_the_code_host_parse(file: Path) -> None:
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(file.read_text())
