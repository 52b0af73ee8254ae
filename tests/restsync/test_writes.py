"""Writing over HTTP: what comes back, and what the agent's watches have seen by then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from datasync import ChangeEvent, DataSync, NotApplied, Refused, Verdict
from datasync.testing.contract import eventually
from tests.helpers.rest.agents import agent
from tests.helpers.rest.served import served

Run = Callable[[Any], None]


def test_a_put_is_answered_when_the_watches_have_applied_it(run: Run) -> None:
    async def main() -> None:
        async with agent() as it:
            answer = await it.ask("PUT", "/v1/keys/config/mtu", b"1500")
            assert answer.status == 200
            assert answer.json == {"revision": 1, "verdict": "accepted"}
            assert answer.headers["ETag"] == '"1"'
            assert it.probe.state == {"config/mtu": b"1500"}
            await it.ask("PUT", "/v1/keys/config/mtu", b"9000")
            [change] = it.probe.changes[-1].changes
            assert change.prev is not None
            assert (change.prev.raw, change.raw, change.revision) == (b"1500", b"9000", 2)
            answer = await it.ask("DELETE", "/v1/keys/config/mtu")
            assert (answer.status, answer.json["existed"]) == (200, [True])
            assert it.probe.state == {}
            assert (await it.ask("DELETE", "/v1/keys/config/mtu")).json["existed"] == [False]

    run(main())


def test_each_verdict_has_its_status(run: Run) -> None:
    async def main() -> None:
        answers = [None, Refused({"config/mtu": "too large"}), ValueError("once")]
        async with agent(answers=answers, ack_timeout=0.1) as it:
            await it.sync.ready(60)
            refused = await it.ask("PUT", "/v1/keys/config/mtu", b"99999")
            assert refused.status == 422
            assert refused.json["verdict"] == "refused"
            assert refused.json["reasons"] == {"config/mtu": "too large"}
            failed = await it.ask("PUT", "/v1/keys/config/other", b"1")
            assert (failed.status, failed.json["verdict"]) == (500, "failed")
            await eventually(lambda: "config/other" in it.probe.state)
            unwatched = await it.ask("PUT", "/v1/keys/elsewhere", b"1")
            assert (unwatched.status, unwatched.json["verdict"]) == (202, "unwatched")
            it.probe.gate.clear()
            overdue = await it.ask("PUT", "/v1/keys/config/mtu", b"1")
            assert (overdue.status, overdue.json["verdict"]) == (504, "overdue")
            quick = await it.ask("PUT", "/v1/keys/config/mtu?confirm=false", b"2")
            assert (quick.status, "verdict" in quick.json) == (200, False)
            it.probe.gate.set()
            await eventually(lambda: it.probe.state.get("config/mtu") == b"2")

    run(main())


def test_a_verdict_is_waited_for_no_longer_than_asked(run: Run) -> None:
    async def main() -> None:
        async with agent(ack_timeout=60) as it:
            await it.sync.ready(60)
            it.probe.gate.clear()
            answer = await it.ask("PUT", "/v1/keys/config/mtu?confirm=0.05", b"1")
            assert (answer.status, answer.json["verdict"]) == (504, "overdue")
            it.probe.gate.set()

    run(main())


def test_conditions_by_etag(run: Run) -> None:
    async def main() -> None:
        async with agent() as it:
            created = await it.ask("PUT", "/v1/keys/config/a", b"1", If_None_Match="*")
            assert created.status == 200
            again = await it.ask("PUT", "/v1/keys/config/a", b"2", If_None_Match="*")
            assert (again.status, again.json["title"], again.json["key"]) == (
                412,
                "Conflict",
                "config/a",
            )
            tag = (await it.ask("GET", "/v1/keys/config/a")).headers["ETag"]
            assert tag == created.headers["ETag"]
            assert (await it.ask("GET", "/v1/keys/config/a", If_None_Match=tag)).status == 304
            assert (await it.ask("PUT", "/v1/keys/config/a", b"3", If_Match=tag)).status == 200
            assert (await it.ask("PUT", "/v1/keys/config/a", b"4", If_Match=tag)).status == 412
            assert (await it.ask("DELETE", "/v1/keys/config/a", If_Match=tag)).status == 412
            assert (await it.ask("GET", "/v1/keys/config/a")).body == b"3"
            for wrong in ("W/x", "a", '"1", "2"'):
                assert (
                    await it.ask("PUT", "/v1/keys/config/a", b"5", If_Match=wrong)
                ).status == 400

    run(main())


def test_a_whole_state_replaces_what_was_and_is_resynced(run: Run) -> None:
    async def main() -> None:
        async with agent(empty=False) as it:
            early = await it.ask("PUT", "/v1/keys/config/a", b"1")
            assert (early.status, early.json["title"]) == (503, "NotReady")
            assert (await it.ask("GET", "/health")).status == 503
            items: list[dict[str, object]] = [
                {"key": "config/a", "value": "text"},
                {"key": "config/b", "value": {"mtu": 1500}},
                {"key": "config/c", "value_base64": "/wA="},
            ]
            body = json.dumps({"items": items}).encode()
            answer = await it.ask("PUT", "/v1/keys", body, Content_Type="application/json")
            assert (answer.status, answer.json["verdict"]) == (200, "accepted")
            assert it.probe.state == {
                "config/a": b"text",
                "config/b": b'{"mtu": 1500}',
                "config/c": b"\xff\x00",
            }
            assert (await it.ask("GET", "/health")).status == 200
            it.probe.answers.append(Refused({"config/a": "no"}))
            body = json.dumps({"items": [{"key": "config/a", "value": "other"}]}).encode()
            answer = await it.ask("PUT", "/v1/keys", body, Content_Type="application/json")
            assert (answer.status, answer.json["reasons"]) == (422, {"config/a": "no"})
            answer = await it.ask(
                "PUT", "/v1/keys", b'{"items":[]}', Content_Type="application/json"
            )
            assert (answer.status, it.probe.state) == (200, {})

    run(main())


def test_a_transaction_is_one_event(run: Run) -> None:
    async def main() -> None:
        async with agent() as it:
            await it.ask("PUT", "/v1/keys/config/old/1", b"1")
            await it.ask("PUT", "/v1/keys/config/old/2", b"1")
            operations: list[dict[str, object]] = [
                {"op": "put", "key": "config/a", "value": "1"},
                {"op": "put", "key": "config/b", "value": 2, "ttl": 60},
                {"op": "delete", "key": "config/old/", "prefix": True},
                {"op": "check", "key": "config/old/1", "revision": 1},
            ]
            body = json.dumps({"operations": operations}).encode()
            answer = await it.ask("POST", "/v1/transactions", body, Content_Type="application/json")
            assert (answer.status, answer.json["existed"]) == (200, [True])
            event = it.probe.changes[-1]
            assert isinstance(event, ChangeEvent)
            assert len(event.changes) == 4
            again = await it.ask("POST", "/v1/transactions", body, Content_Type="application/json")
            assert (again.status, again.json["title"], again.json["expected"]) == (
                409,
                "Conflict",
                1,
            )
            assert it.probe.state == {"config/a": b"1", "config/b": b"2"}

    run(main())


def test_a_ttl_ends(run: Run) -> None:
    async def main() -> None:
        async with agent() as it:
            await it.ask("PUT", "/v1/keys/config/short?ttl=0.1", b"1")
            assert ("config/short", b"1") in it.probe.seen
            await eventually(lambda: it.probe.state == {})

    run(main())


def test_an_agent_with_a_prefix_names_keys_as_the_publisher_does(run: Run) -> None:
    async def main() -> None:
        async with agent(label="vpp1") as it:
            await it.sync.ready(60)
            it.probe.answers.append(Refused({"config/mtu": "too large"}))
            answer = await it.ask("PUT", "/v1/keys//vnf-agent/vpp1/config/mtu", b"1")
            assert (answer.status, answer.json["reasons"]) == (
                422,
                {"/vnf-agent/vpp1/config/mtu": "too large"},
            )
            it.probe.answers.append(Refused({"config/mtu": "still"}))
            async with DataSync(it.url, label="vpp1") as client:
                with pytest.raises(NotApplied) as caught:
                    await client.put("config/mtu", b"2", confirm=True)
            assert (caught.value.verdict, caught.value.reasons) == (
                Verdict.REFUSED,
                {"config/mtu": "still"},
            )
            assert caught.value.revision == 2

    run(main())


def test_a_client_hears_the_verdicts_of_the_agent_and_its_own(run: Run) -> None:
    async def main() -> None:
        async with agent(ack_timeout=0.2) as it, DataSync(it.url) as client:
            await it.sync.ready(60)

            @client.watcher("config/own/")
            async def own(event: Any) -> None:
                if isinstance(event, ChangeEvent):
                    raise Refused({change.key: "not here" for change in event.changes})

            await client.ready(60)
            assert await client.put("config/a", b"1", confirm=True) == 1
            with pytest.raises(NotApplied) as caught:
                await client.put("config/own/a", b"1", confirm=True)
            assert (caught.value.verdict, caught.value.reasons) == (
                Verdict.REFUSED,
                {"config/own/a": "not here"},
            )
            with pytest.raises(NotApplied) as caught:
                await client.put("elsewhere", b"1", confirm=True)
            assert caught.value.verdict is Verdict.UNWATCHED
            it.probe.answers.append(ValueError("once"))
            with pytest.raises(NotApplied) as caught:
                await client.put("config/a", b"2", confirm=True)
            assert caught.value.verdict is Verdict.FAILED

    run(main())


def test_what_the_source_lacks_is_said(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        from datasync import UnsupportedOption, open_url

        async with DataSync(f"sqlite:///{tmp_path}/a.db") as sync:
            await sync.put("a", b"1")
        async with (
            served(open_url(f"sqlite:///{tmp_path}/a.db?immutable=1")) as server,
            DataSync(server.url) as client,
        ):
            assert (await client.get("a")) is not None
            with pytest.raises(
                UnsupportedOption, match=r"takes no writes; leave out \?immutable=1$"
            ):
                await client.put("a", b"2")
        async with served() as server, DataSync(server.url) as client:
            source = client._sources[0]
            with pytest.raises(UnsupportedOption, match="no RESYNC"):
                await source.replace([])

    run(main())


def test_many_writers_at_once(run: Run) -> None:
    async def main() -> None:
        async with agent() as it:
            answers = await asyncio.gather(
                *(
                    it.ask("PUT", f"/v1/keys/config/{number % 50}", b"%d" % number)
                    for number in range(500)
                )
            )
            assert {answer.status for answer in answers} == {200}
            assert sorted(answer.json["revision"] for answer in answers) == list(range(1, 501))
            assert len(it.probe.state) == 50

    run(main())
