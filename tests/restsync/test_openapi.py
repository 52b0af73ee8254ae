"""The OpenAPI description is right: a fuzzer that goes by it finds nothing."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from datasync.restsync._bodies import Page
from datasync.restsync._limits import Limits
from datasync.restsync._openapi import description
from datasync.restsync._overview import Overview
from datasync.restsync._problems import ProblemDetails, Written
from tests.helpers.servers import Process, free_ports

AGENT = """
import asyncio, sys, datasync

sync = datasync.DataSync(f"rest://127.0.0.1:{sys.argv[1]}?initial=empty")

@sync.watcher("")
async def everything(event):
    pass

asyncio.run(sync.run())
"""
# the stream has no end, and is tested by hand; a name that is used up, and a condition that does
# not hold, are answers
SETTINGS = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "304", "401", "404", "409", "410", "412", "422", "429"]
"""


def test_the_schemas_of_answers_are_those_of_their_structs() -> None:
    """So that a member that is added is described."""
    schemas = description(Limits(), secured=False)["components"]["schemas"]
    for kind in (Page, Written, ProblemDetails, Overview):
        assert list(schemas[kind.__name__]["properties"]) == [
            field.encode_name for field in msgspec.structs.fields(kind)
        ]
    assert schemas["Overview"]["properties"]["watches"]["items"] == {
        "$ref": "#/components/schemas/WatchStatus"
    }


def test_each_schema_that_is_referred_to_is_there() -> None:
    document = description(Limits(), secured=True)
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert named == set(document["components"]["schemas"])


@pytest.mark.once
@pytest.mark.timeout(420)
@pytest.mark.alone("crowd")
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    [port] = free_ports(1)
    agent = Process([sys.executable, str(tmp_path / "agent.py"), str(port)], port, tmp_path)
    asyncio.run(agent.start())
    try:
        done = subprocess.run(
            [
                sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
                "--config-file", "schemathesis.toml", "run", f"http://127.0.0.1:{port}/openapi.json",
                "--exclude-operation-id", "events", "--max-examples", "10", "--no-color", "--seed",
                "2",
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert "Tested: 13" in done.stdout
        assert agent.running
    finally:
        agent.end()
