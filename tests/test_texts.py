"""Text that leaves the process: no half of a surrogate pair,
and nothing that moves a cursor or begins a line.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import pickle
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from datasync import ChangeEvent, DataSync, DataSyncError, NotApplied, Refused, ResyncEvent, Retry
from datasync.cli.formats import writer
from datasync.restsync._problems import Problem, json_of
from datasync.terminal.output import json_line
from datasync.texts import logger, printable
from tests.helpers.servers import free_ports

NASTY = "half \ud800 esc \x1b[2J c1 \x9b31m bidi \u202e\u2066 line\r\nnul \0 sep \u2028 bom \ufeff"
FAIR = "größe 接口 😀 'a' \\\\x"


def test_what_is_printable_stays() -> None:
    assert printable(FAIR) == FAIR
    assert printable("\x1b\ud800\u202e\n") == r"\x1b\ud800\u202e\n"
    for text in (
        printable(NASTY),
        str(DataSyncError(NASTY)),
        str(Refused({"k": NASTY})),
        str(Retry(NASTY, after=1)),
    ):
        assert text.isprintable()
        text.encode()
    error = pickle.loads(pickle.dumps(DataSyncError(NASTY, 5)))
    assert error.args == (printable(NASTY), 5)


def test_a_line_of_the_log_is_one(caplog: pytest.LogCaptureFixture) -> None:
    log = logger("datasync.test")
    assert logger("datasync.test") is log
    assert len(log.filters) == 1
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("AT %(message)s"))
    log.addHandler(handler)
    try:
        log.warning("%s said %s after %.1f s", NASTY, ValueError(NASTY), 1.5)
        try:
            raise ValueError("first") from KeyError(NASTY)
        except ValueError:
            log.exception("%r failed", b"k")
        log.error("no arguments", exc_info=RuntimeError(f"{NASTY}\nAT forged"))
    finally:
        log.removeHandler(handler)
    lines = stream.getvalue().splitlines()
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if line.startswith("AT ")] == [
        f"AT {printable(NASTY)} said {printable(NASTY)} after 1.5 s", "AT b'k' failed", "AT no arguments"
    ]  # fmt: skip
    stream.getvalue().encode()


async def refuse(event: ResyncEvent[bytes] | ChangeEvent[bytes]) -> None:
    if isinstance(event, ChangeEvent):
        raise Refused({change.key: NASTY for change in event.changes})


async def fail(event: ResyncEvent[bytes] | ChangeEvent[bytes]) -> None:
    if isinstance(event, ChangeEvent):
        raise ValueError(NASTY)


@pytest.mark.parametrize("scheme", ["memory", "rest", "grpc"])
def test_status_and_verdicts_are_text(scheme: str, run: Callable[[Any], None]) -> None:
    """Whatever a handler says, and whichever way it goes to the publisher."""

    async def main() -> None:
        address = f"127.0.0.1:{free_ports(1)[0]}"
        served = scheme != "memory"
        async with contextlib.AsyncExitStack() as stack:
            sync = DataSync(f"{scheme}://{address}?initial=empty" if served else "memory://")
            sync.watcher("a/", name=f"a {NASTY}")(refuse)
            sync.watcher("b/", name="b")(fail)
            await stack.enter_async_context(sync)
            await sync.ready(60)
            client = sync
            if served:
                client = await stack.enter_async_context(
                    DataSync(f"{'http' if scheme == 'rest' else 'grpc'}://{address}")
                )
            with pytest.raises(NotApplied) as refused:
                await client.put("a/1", b"1", confirm=60)
            with pytest.raises(NotApplied):
                await client.put("b/1", b"1", confirm=60)
            assert refused.value.reasons == {"a/1": printable(NASTY)}

            first, second = sync.status().watches
            assert first.name == f"a {printable(NASTY)}"
            assert first.failing is not None
            assert first.failing.keys == {"a/1": printable(NASTY)}
            assert second.failing is not None
            assert second.failing.why == f"ValueError: {printable(NASTY)}"

            if scheme == "rest":
                async with aiohttp.ClientSession(f"http://{address}") as http:
                    for path in ("/v1/status", "/metrics"):
                        async with http.get(path) as answer:
                            assert answer.status == 200
                            assert printable(NASTY).replace("\\", "\\\\") in await answer.text()
                    async with http.put("/v1/keys/a/2", data=b"1") as answer:
                        assert (answer.status, (await answer.json())["reasons"]) == (
                            422,
                            {"a/2": printable(NASTY)},
                        )

    run(main())


def test_an_answer_is_json_whatever_is_in_it() -> None:
    assert json.loads(json_of({"a": [NASTY, FAIR]})) == {"a": [NASTY, FAIR]}
    body = Problem(400, "BadValue", NASTY, key=NASTY).body()
    assert json.loads(body)["detail"] == printable(NASTY)
    body.decode()


def test_json_that_is_printed_is_the_same_json() -> None:
    value = {NASTY.replace("\ud800", ""): ["\U000e0001", FAIR, {"\x7f": 1}]}
    line = json_line(json.dumps(value, ensure_ascii=False).encode())
    assert line.decode().isprintable()
    assert json.loads(line) == value
    assert FAIR.replace("\\", "\\\\") in line.decode()


@pytest.mark.parametrize("format", ["jsonl", "json", "yaml"])
def test_what_is_dumped_hides_nothing(format: str) -> None:
    text = NASTY.replace("\ud800", "")
    file = io.BytesIO()
    with writer(file, format) as write:
        write(text, text.encode())
        write("s", json.dumps({text: [text]}, ensure_ascii=False, separators=(",", ":")).encode())
        write(FAIR, FAIR.encode())
    assert file.getvalue().decode().replace("\n", "").isprintable()
    assert "größe 接口".encode() in file.getvalue()
