"""The edges of a request: paths, headers and positions that are nearly right,
and what a client makes of answers.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from yarl import URL

from datasync import DataSync, HistoryLost, Refused, open_url
from datasync.restsync._bodies import read_state
from datasync.restsync._limits import Limits
from datasync.serving import cursors
from datasync.testing.contract import eventually
from tests.helpers.rest.agents import Agent, agent
from tests.helpers.rest.served import served

Run = Callable[[Any], None]
JSON = {"Content_Type": "application/json"}
ODD = (
    "a/../b",
    "..",
    ".",
    "./x",
    "a//b",
    "/x",
    "?q#f",
    "%41",
    "%2F",
    "é",
    " ",
    "\n",
    "\0",
    "+&;=",
    "a\\b",
    "<script>",
)


def test_a_path_that_is_encoded_where_the_key_begins_names_no_key(run: Run) -> None:
    async def main() -> None:
        async with agent("") as it:
            for path in ("/v1%2Fkeys/config/a", "/%761/keys/config/a", "/v1/keys%2Fconfig/a"):
                assert (await it.ask("PUT", path, b"1")).status == 404
            assert it.probe.state == {}

    run(main())


def test_odd_keys_go_there_and_back(run: Run) -> None:
    async def main() -> None:
        async with agent("") as it, DataSync(it.url) as client:
            for key in ODD:
                await client.put(key, key.encode())
                found = await client.get(key)
                assert found is not None
                assert found.raw == key.encode()
            assert sorted(it.probe.state) == sorted(ODD)
            assert [kv.key async for kv in client.list("")] == sorted(ODD)

    run(main())


def test_json_is_utf8_whatever_the_case_of_its_name(run: Run) -> None:
    async def main() -> None:
        async with agent("") as it:
            for kind in ("application/json", "Application/JSON; charset=utf-8"):
                for wrong in (b'"\xff"', b"{nope", b'{"a":"\xff"}'):
                    assert (
                        await it.ask("PUT", "/v1/keys/a", wrong, Content_Type=kind)
                    ).status == 400
            assert (
                await it.ask("PUT", "/v1/keys/a", b"1\n2\n", Content_Type="application/json-seq")
            ).status == 200
            await it.ask("PUT", "/v1/keys/a", b'"\xff"')
            assert (await it.ask("GET", "/v1/keys/a")).headers[
                "Content-Type"
            ] == "application/octet-stream"
            for value in (b'"\xff"', b'{"a":"\xff"}', b'"\\ud800\\u0041"'):
                item = b'{"%s":[{"key":"k","value":' + value + b"}]}"
                operation = item.replace(b"{", b'{"op":"put",').replace(b'{"op":"put",', b"{", 1)
                for method, path, body in (
                    ("PUT", "/v1/keys", item % b"items"),
                    ("POST", "/v1/transactions", operation % b"operations"),
                ):
                    answer = await it.ask(method, path, body, **JSON)
                    assert (answer.status, answer.json["title"]) == (400, "BadBody"), (
                        body,
                        answer.body,
                    )
            assert list(it.probe.state) == ["a"]

    run(main())


def test_headers_that_would_change_what_is_written_are_refused(run: Run) -> None:
    """Rather than left out of account: a body that is packed or a part,
    conditions where many keys are written.
    """

    async def main() -> None:
        async with agent("") as it:
            for header in ({"Content_Encoding": "gzip"}, {"Content_Range": "bytes 5-6/10"}):
                assert (await it.ask("PUT", "/v1/keys/a", b"..", **header)).status == 415
            body = json.dumps({"operations": [{"op": "put", "key": "a", "value": "1"}]}).encode()
            for condition in ({"If_Match": '"7"'}, {"If_None_Match": "*"}):
                for method, path, data in (
                    ("DELETE", "/v1/keys?prefix=a/", None),
                    ("POST", "/v1/transactions", body),
                    ("PUT", "/v1/keys", b'{"items":[]}'),
                ):
                    answer = await it.ask(method, path, data, **condition, **JSON)
                    assert (answer.status, answer.json["title"]) == (400, "BadHeader")
            assert it.probe.state == {}
            assert it.source._inbox._revision == 0

    run(main())


def test_if_none_match_of_a_read_is_a_list(run: Run) -> None:
    async def main() -> None:
        async with agent("") as it:
            tag = (await it.ask("PUT", "/v1/keys/a", b"1")).headers["ETag"]
            for header, status in (
                (tag, 304), (f"W/{tag}", 304), (f'"0", {tag}', 304), ("*", 304), ('"9"', 200),
                ('"x", W/"0"', 200),
            ):  # fmt: skip
                for method in ("GET", "HEAD"):
                    answer = await it.ask(method, "/v1/keys/a", If_None_Match=header)
                    assert (answer.status, answer.headers["ETag"]) == (status, tag)
            assert (await it.ask("GET", "/v1/keys/b", If_None_Match="*")).status == 404

    run(main())


async def first_event(it: Agent, path: str, last: str) -> str:
    """The name of the first event of a stream that comes back behind `last`."""
    async with it.client.get(
        URL(it.url + path, encoded=True), headers={"Last-Event-ID": last}
    ) as answer:
        assert answer.status == 200
        async for line in answer.content:
            if line.startswith(b"event: "):
                return line[7:-1].decode()
    raise AssertionError("the stream ended")


def test_each_edge_of_a_position(run: Run) -> None:
    """A client that comes back goes on behind its position where that is proven,
    else takes a snapshot: never a gap.
    """

    async def main() -> None:
        async with agent("") as it:
            log = it.source._hub.log
            for number in range(3):
                await it.ask("PUT", f"/v1/keys/{number}", b"1")
            mine, _, newest = log.position(log.seq).rpartition(".")
            for last, first in (
                (f"{mine}.{newest}", "progress"),
                (f"{mine}.{int(newest) - 1}", "commit"),
                (f"{mine}.{log.floor}", "commit"),
                (f"{mine}.{log.floor - 1}", "snapshot-begin"),
                (f"{mine}.{int(newest) + 1}", "snapshot-begin"),
                (f"{mine}.{'9' * 5000}", "snapshot-begin"),
                (f"{mine}.", "snapshot-begin"),
                (f"{mine}.-1", "snapshot-begin"),
                (f"{mine}.1e0", "snapshot-begin"),
                ("other.1", "snapshot-begin"),
                ("x", "snapshot-begin"),
            ):
                for path in ("/v1/events", "/v1/events?from=now", "/v1/events?from=snapshot"):
                    assert await first_event(it, path, last) == first, (path, last[:60])

    run(main())


def test_no_metric_keeps_what_a_client_has_made_up(run: Run) -> None:
    async def main() -> None:
        async with agent("") as it, DataSync(it.source) as other:
            other.watcher("", name="probe")(it.probe)  # the same source, and a name that is taken
            for number in range(20):
                await it.ask("GET", f"/secret/{number}")
                await it.ask("POST", f"/page/{number}")
                await it.ask("GET", f"/v1/keys/secret/{number}")
                await it.ask("GET", "/v1/keys", Host=f"secret{number}.example")
            lines = (await it.ask("GET", "/metrics")).body.decode().splitlines()
            assert not [line for line in lines if "secret" in line]
            assert (
                'datasync_http_requests_total{method="GET",route="other",status="404"} 20.0'
                in lines
            )
            counted = [line for line in lines if line.startswith("datasync_http_requests_total")]
            assert len(counted) == 4
            series = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
            assert len(series) == len(set(series))
            assert 'datasync_watch_failing{watch="probe (2)"} 0.0' in lines

    run(main())


# -- a client, and what answers it -----------------------------------------------------------------


async def datasync(*words: str) -> tuple[int, str, str]:
    """The command line: exit code, output, errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "datasync",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def test_put_and_del_over_http_end_with_the_verdict_of_the_agent(run: Run) -> None:
    async def main() -> None:
        async with agent(ack_timeout=30) as it:
            await it.sync.ready(60)
            assert await datasync("put", it.url, "config/mtu", "1") == (0, "1\n", "")
            it.probe.answers += [Refused({"config/mtu": "too large"})] * 2
            code, out, err = await datasync("put", it.url, "--prefix", "config/", "mtu", "99999")
            assert (code, out) == (1, "")
            assert "written, but refused (mtu: too large)" in err
            code, out, err = await datasync("del", it.url, "config/mtu")
            assert (code, out) == (1, "")
            assert "written, but refused (config/mtu: too large)" in err
            code, _, err = await datasync("put", it.url, "elsewhere", "1")
            assert (code, "written, but unwatched" in err) == (1, True)

    run(main())


def test_a_store_that_is_served_has_no_verdict_to_wait_for(run: Run) -> None:
    async def main() -> None:
        async with served() as server:
            assert await datasync("put", server.url, "a", "1") == (0, "1\n", "")
            assert await datasync("del", server.url, "a") == (0, "deleted\n", "")

    run(main())


def test_a_verdict_comes_through_a_server_in_between(run: Run) -> None:
    async def main() -> None:
        async with (
            agent(answers=[None, Refused({"config/mtu": "no"})]) as it,
            served(open_url(it.url)) as between,
        ):
            await it.sync.ready(60)
            assert (await datasync("put", between.url, "config/mtu", "1"))[0] == 1

    run(main())


def test_a_list_whose_next_page_is_forgotten_says_so(run: Run) -> None:
    async def main() -> None:
        async with agent("", limits=Limits(page=2)) as it:
            for number in range(5):
                await it.ask("PUT", f"/v1/keys/{number}", b"1")
            source = open_url(it.url)
            _, token = await source.page("", None, 2)
            await source.page("", token, 2)
            with pytest.raises(HistoryLost, match="list again"):
                await source.page("", token, 2)
            await source.aclose()

    run(main())


def test_a_place_in_a_list_is_forgotten_by_itself(run: Run) -> None:
    async def main() -> None:
        async with agent("", limits=Limits(cursor=0.05)) as it:
            for number in range(5):
                await it.ask("PUT", f"/v1/keys/{number}", b"1")
            cursor = (await it.ask("GET", "/v1/keys?limit=2")).json["next"]
            kept = it.source.app._keys._cursors
            await eventually(lambda: len(kept) == kept.bytes == 0)  # though nobody lists again
            assert (await it.ask("GET", f"/v1/keys?limit=2&cursor={cursor}")).status == 410

    run(main())


def test_lists_that_nobody_goes_on_with_keep_no_more_than_a_few_snapshots(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursors, "_BYTES", 10_000)

    async def main() -> None:
        async with agent("") as it:
            for number in range(20):
                await it.ask("PUT", f"/v1/keys/{number}", bytes(100))
            places = []
            for number in range(20):
                await it.ask("PUT", "/v1/keys/again", str(number).encode())
                places.append((await it.ask("GET", "/v1/keys?limit=2")).json["next"])
                # those of the same state are kept once
                places.append((await it.ask("GET", "/v1/keys?limit=2")).json["next"])

            kept = it.source.app._keys._cursors
            assert kept.bytes < 20_000
            assert 4 <= len(kept) <= 6
            for cursor, status in [(places[0], 410), (places[-3], 200), (places[-1], 200)]:
                assert (await it.ask("GET", f"/v1/keys?limit=2&cursor={cursor}")).status == status

    run(main())


def test_a_large_state_is_taken_apart_in_portions() -> None:
    async def main() -> None:
        items = [{"key": f"a/{number}", "value": "1"} for number in range(10_000)]
        body = json.dumps({"items": items}).encode()
        turns, reading = 0, asyncio.create_task(read_state(body, Limits()))
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        assert await reading == [(f"a/{number}", b"1") for number in range(10_000)]
        assert turns >= 10

    asyncio.run(main())
