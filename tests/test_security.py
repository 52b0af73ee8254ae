"""SECURITY.md names tests that there are, and the workflow audits the versions that are locked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]


def test_each_test_that_it_names_exists() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 20
    missing = [
        f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text()
    ]
    assert not missing
    rows = [line for line in text.splitlines() if line.startswith("| ") and "|---" not in line][1:]
    assert all("::test_" in row for row in rows)


def test_the_workflow_runs_what_is_there() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    commands = {
        name: "\n".join(step.get("run", "") for step in job["steps"])
        for name, job in workflow["jobs"].items()
    }
    assert "bash .ci/run" in commands["checks"]
    assert "pip-audit" in commands["audit"]
    assert "constraints.txt" in commands["audit"]
    versions = workflow["jobs"]["checks"]["strategy"]["matrix"]["python"]
    lowest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert lowest is not None
    assert versions[0] == lowest[1]
