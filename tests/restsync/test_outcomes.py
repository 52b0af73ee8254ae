"""Outcomes by key over HTTP: in the body of the answer, and in the status of the agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from datasync import (
    Accepted,
    DataSync,
    Failed,
    NotApplied,
    Outcomes,
    OutcomeUnknown,
    Pending,
    Refused,
    Verdict,
    open_url,
)
from datasync.outcome import KeyOutcome
from datasync.restsync._problems import MARK
from datasync.source import Put
from tests.helpers.rest.agents import agent
from tests.helpers.rest.gateways import answering

Run = Callable[[Any], None]


def test_the_body_tells_them_apart(run: Run) -> None:
    async def main() -> None:
        said = {
            "config/a": Pending("no eth0"),
            "config/b": Failed("busy"),
            "config/c": Refused("no"),
        }
        async with agent(
            answers=[None, *(Outcomes({key: one}) for key, one in said.items())]
        ) as it:
            await it.sync.ready(60)
            answers = [await it.ask("PUT", f"/v1/keys/{key}", b"1") for key in said]
            assert [answer.status for answer in answers] == [202, 500, 422]
            assert [answer.json["verdict"] for answer in answers] == [
                "pending",
                "failed",
                "refused",
            ]
            assert [answer.json["outcomes"] for answer in answers] == [
                {"config/a": {"verdict": "pending", "reason": "no eth0"}},
                {"config/b": {"verdict": "failed", "reason": "busy"}},
                {"config/c": {"verdict": "refused", "reason": "no"}},
            ]
            assert [answer.json.get("reasons") for answer in answers] == [
                None, None, {"config/c": "no"},
            ]  # fmt: skip

            watch = (await it.ask("GET", "/v1/status")).json["watches"][0]
            assert watch["open"] == {
                "config/a": {"verdict": "pending", "reason": "no eth0"},
                "config/b": {"verdict": "failed", "reason": "busy"},
            }
            it.sync.watches["probe"].report({"config/a": Accepted(), "config/b": Accepted()})
            assert "open" not in (await it.ask("GET", "/v1/status")).json["watches"][0]

    run(main())


def test_a_client_hears_of_each_key(run: Run) -> None:
    async def main() -> None:
        said = {"config/a": Pending("no eth0"), "config/c": Refused("no")}
        async with agent(answers=[None, Outcomes(said)]) as it, DataSync(it.url) as sync:
            await it.sync.ready(60)
            txn = sync.txn().put("config/a", b"1").put("config/c", b"1").put("config/d", b"1")
            with pytest.raises(NotApplied) as caught:
                await txn.commit(confirm=True)
            assert caught.value.verdict is Verdict.REFUSED
            assert caught.value.outcomes == {
                "config/a": KeyOutcome(Verdict.PENDING, "no eth0"),
                "config/c": KeyOutcome(Verdict.REFUSED, "no"),
            }

    run(main())


def test_the_status_lists_so_many_open_keys_at_most(run: Run) -> None:
    async def main() -> None:
        keys = [f"config/{number:03}" for number in range(250)]
        async with agent(answers=[None, Outcomes(dict.fromkeys(keys, Pending("x" * 2000)))]) as it:
            await it.sync.ready(60)
            txn = it.sync.txn()
            for key in keys:
                txn.put(key, b"1")
            await txn.commit()
            watch = (await it.ask("GET", "/v1/status")).json["watches"][0]
            assert (len(watch["open"]), watch["more_open"]) == (100, 150)
            assert len(watch["open"]["config/000"]["reason"]) == 1001

    run(main())


@pytest.mark.parametrize(
    ("body", "result"),
    [
        # of an older server, which has the reasons alone
        (
            b'{"verdict":"refused","reasons":{"a":"no"}}',
            {"a": KeyOutcome(Verdict.REFUSED, "no")},
        ),
        (b'{"verdict":"delegated"}', "the verdict of the watches, 'delegated', is not known here"),
        (
            b'{"verdict":"pending","outcomes":{"a":{"verdict":"delegated","reason":""}}}',
            "see that the server is not newer than this client; read the keys to know",
        ),
    ],
)
def test_a_verdict_that_is_not_known_here_is_an_unknown_outcome(
    run: Run, body: bytes, result: Any
) -> None:
    async def main() -> None:
        headers = {"content-type": "application/json", MARK: str(len(body))}
        async with answering(200, body, headers) as url:
            source = open_url(url)
            write = source.commit([Put("a", b"1")], reply=True)
            if isinstance(result, dict):
                assert (await (await write).verdict()).outcomes == result
            else:
                with pytest.raises(OutcomeUnknown, match=result):
                    await write
            await source.aclose()

    run(main())
