"""The alert rules and the board in docs/: Prometheus takes them, they fire when they should,
and name nothing that is not there."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from datasync import DataSync
from datasync.reconcile import Kind, Reconciler
from tests.helpers.servers import require

DOCS = Path(__file__).parents[2] / "docs"
ALERTS, BOARD = DOCS / "prometheus" / "alerts.yml", DOCS / "grafana" / "datasync.json"

pytestmark = pytest.mark.once


def promtool(*arguments: str | Path) -> None:
    """What it is given is right."""
    program = require("promtool", "apt-get install -y prometheus")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def board() -> dict[str, Any]:
    """The board, decoded."""
    shown: dict[str, Any] = json.loads(BOARD.read_text())
    return shown


def expressions() -> list[str]:
    """What the panels of the board ask for, with the variables of Grafana filled in."""
    asked = [target["expr"] for panel in board()["panels"] for target in panel["targets"]]
    return [
        one.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$instance", ".*")
        for one in asked
    ]


def test_prometheus_takes_the_rules_and_they_fire_when_they_should() -> None:
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", Path(__file__).parent / "alerts_test.yml")


def test_each_rule_is_tested_both_ways() -> None:
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    tests = yaml.safe_load((Path(__file__).parent / "alerts_test.yml").read_text())["tests"]
    asked = [case for test in tests for case in test["alert_rule_test"]]
    for rule in rules:
        mine = [case for case in asked if case["alertname"] == rule["alert"]]
        assert {bool(case.get("exp_alerts")) for case in mine} == {True, False}, rule["alert"]


def test_prometheus_understands_what_the_board_asks_for(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(expressions())]
    file = tmp_path / "board.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    promtool("check", "rules", file)


def test_the_board_can_be_imported() -> None:
    shown = board()
    ids = [panel["id"] for panel in shown["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in shown["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, f"{panel['title']} lies upon another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["description"]


async def exported() -> dict[str, set[str]]:
    """The names of what an agent with a page tells, with the labels of each."""
    async with DataSync("memory://") as sync:

        async def ignore(_: object) -> None: ...

        class Things(Kind[bytes, None]):
            async def create(self, key: str, value: bytes) -> None: ...

            async def delete(self, key: str, value: bytes, handle: None) -> None: ...

        sync.watcher("", name="it")(ignore)
        rec = Reconciler(sync)
        rec.add("net/", Things())
        await rec.start()
        await sync.ready(60)
        url = (await sync.serve_status("127.0.0.1:0")).url
        async with aiohttp.ClientSession() as client:
            for _ in range(2):  # the second answer counts the first
                async with client.get(f"{url}/metrics") as answer:
                    text = await answer.text()
        await rec.aclose()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_the_rules_the_board_and_the_documents_name_what_there_is() -> None:
    known = asyncio.run(exported())
    asked = [rule["expr"] for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]]
    asked += expressions()
    for expression in asked:
        names = set(re.findall(r"datasync_\w+", expression))
        assert names
        assert names <= known.keys(), names - known.keys()
        # `job` and `instance` are those of Prometheus
        labels = {label for name in names for label in known[name]} | {"job", "instance"}
        wanted = set(re.findall(r"(\w+)=~?\"", expression))
        for by in re.findall(r"by \(([^)]*)\)", expression):
            wanted |= set(re.findall(r"\w+", by))
        assert wanted <= labels, f"{wanted - labels} in {expression}"
    for panel in board()["panels"]:
        for target in panel["targets"]:
            legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            names = set(re.findall(r"datasync_\w+", target["expr"]))
            assert legend <= {label for name in names for label in known[name]} | {"instance"}
    page = (DOCS / "operations.md").read_text()
    for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]:
        assert f"`{rule['alert']}`" in page
