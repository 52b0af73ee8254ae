"""Fails unless the wheel and the sdist build from a clean tree,
and the wheel works with each extra alone.

Each is installed into an environment of its own, with the versions of constraints.txt; pip's cache
makes that quick.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent

# What each extra is for, in the environment that has it and nothing else
USES = {
    "": "datasync.open_url('memory://')",
    "sqlite": "datasync.open_url('sqlite:///it.db'); import apsw",
    "protobuf": "import datasync.codec.protobuf",
    "cli": "import datasync.cli.templates, datasync.documents.yamlfile; "
    "import datasync.terminal.pretty, watchfiles; "
    "assert not datasync.cli.main(['completion', 'bash'])",
    "files": "datasync.open_url('file:///etc/agent/'); import datasync.documents.yamlfile",
    "etcd": "datasync.open_url('etcd://127.0.0.1')",
    "grpc": "datasync.open_url('grpc+watch://127.0.0.1:1'); import datasync.grpcsync.server",
    "redis": "datasync.open_url('redis://127.0.0.1')",
    "kafka": "datasync.open_url('kafka://127.0.0.1/topic')",
    "rest": "datasync.open_url('rest://127.0.0.1:1'); datasync.open_url('http://127.0.0.1:1')",
    "otel": "import datasync.metrics.otel",
    "prometheus": "import datasync.metrics.prometheus",
    "all": "datasync.open_url('etcds://127.0.0.1'); datasync.open_url('kafkas://127.0.0.1/topic')",
}


def call(*command: str | Path, cwd: Path) -> str:
    """What a command says; ends this one where it fails."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "DATASYNC"))
    }
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(directory: Path) -> Path:
    """The wheel, made of the sdist, which is made of what is committed."""
    tree = directory / "tree"
    # also where another user owns the checkout, as in some continuous integrations
    known = call("git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, known):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    call(sys.executable, "-m", "build", "--outdir", directory / "dist", tree, cwd=directory)
    [wheel], [sdist] = (
        list((directory / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz")
    )
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("datasync/")}
    committed = {name.removeprefix("src/") for name in known if name.startswith("src/")}
    if packed != committed:
        raise SystemExit(f"the wheel and the tree differ in: {sorted(packed ^ committed)}")
    with tarfile.open(sdist) as source:
        if not any(name.endswith("/LICENSE") for name in source.getnames()):
            raise SystemExit("the sdist lacks the LICENSE")
    return wheel


def check(extra: str, wheel: Path, directory: Path) -> None:
    """Install the wheel with one extra, and use what that brings."""
    place = directory / f"env-{extra}"
    call(sys.executable, "-m", "venv", "--without-pip", place, cwd=directory)
    python = place / "bin" / "python"
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    pip = (sys.executable, "-m", "pip", "--python", python)
    call(
        *pip, "install", "-q", "--no-compile", "-c", ROOT / "constraints.txt", wanted, cwd=directory
    )
    call(*pip, "check", cwd=directory)

    call(python, "-W", "error", "-c", f"import datasync; {USES[extra]}", cwd=directory)
    said = call(place / "bin" / "datasync", "--version", cwd=directory).split()
    if said != ["datasync", wheel.name.split("-")[1]]:
        raise SystemExit(f"the wheel {wheel.name} says that it is {' '.join(said)}")


def main() -> int:
    """The exit code."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    if {"", *extras} != set(USES):
        raise SystemExit(f"say here what these are for: {sorted({'', *extras} ^ set(USES))}")
    with tempfile.TemporaryDirectory(prefix="datasync-") as directory:
        wheel = build(Path(directory))
        for extra in USES:
            check(extra, wheel, Path(directory))
            print(
                f"the wheel works with {f'the extra {extra}' if extra else 'no extra'}", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
