"""What `etcdctl get -w json`, `consul kv export` and our own `--json` print."""

from __future__ import annotations

import pytest

from datasync.documents import BadFile, entries

ETCD = (
    '{"header":{"cluster_id":14841639068965178418,"member_id":10276657743932975437,"revision":3,'
    '"raft_term":2},"kvs":[{"key":"Y29uZmlnL210dQ==","create_revision":2,"mod_revision":2,'
    '"version":1,"value":"MTUwMA=="},{"key":"Y29uZmlnL2VtcHR5","create_revision":3,'
    '"mod_revision":3,"version":1}],"count":2}\n'
)
CONSUL = """[
\t{
\t\t"key": "config/mtu",
\t\t"flags": 0,
\t\t"value": "MTUwMA=="
\t},
\t{
\t\t"key": "config/empty",
\t\t"flags": 42,
\t\t"value": ""
\t}
]
"""
OURS = """{"key":"config/mtu","value":"1500","revision":2}
{"key":"config/logo","value_base64":"iVBO","revision":3}
"""


def read(format: str, text: str) -> dict[str, bytes]:
    return {entry.key: entry.raw for entry in entries(format, "f", text.encode())}


@pytest.mark.parametrize("format", ["json", "jsonl"])
def test_an_answer_of_etcd(format: str) -> None:
    assert read(format, ETCD) == {"config/mtu": b"1500", "config/empty": b""}
    assert read(format, ETCD[: ETCD.index(',"kvs"')] + "}") == {}


def test_an_export_of_consul() -> None:
    assert read("json", CONSUL) == {"config/mtu": b"1500", "config/empty": b""}
    assert read("json", "[]") == {}


def test_lines_of_our_own_commands() -> None:
    assert read("jsonl", OURS) == {"config/mtu": b"1500", "config/logo": b"\x89PN"}


def test_a_mapping_that_only_resembles_an_export_is_a_mapping() -> None:
    text = '{"header":{"title":"x"},"kvs":[1]}'
    assert read("json", text) == {"header": b'{"title":"x"}', "kvs": b"[1]"}


@pytest.mark.parametrize(
    ("format", "text", "problem"),
    [
        ("json", '[{"a":1}]', "a mapping of keys to values, or what `consul kv export` prints"),
        ("json", CONSUL.replace("MTUwMA==", "%"), r"base64.*\$\[0\].value"),
        ("json", ETCD.replace("MTUwMA==", "%"), r"etcdctl get -w json.*base64"),
        ("json", ETCD.replace("Y29uZmlnL210dQ==", "/w=="), "the key b'\\\\xff' is not UTF-8"),
        ("json", ETCD[:-5], "etcdctl get -w json"),
        ("jsonl", '{"key":"a","value":"b","value_base64":"Yg=="}', '"value" is given too'),
        ("jsonl", '{"key":"a","value_base64":"%"}', "not base64"),
        ("jsonl", '{"key":"a","revision":5}', 'the member "value" is missing'),
    ],
)
def test_mistakes_are_told(format: str, text: str, problem: str) -> None:
    with pytest.raises(BadFile, match=problem):
        read(format, text)
