"""What a reader believes of what it sees."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from datasync.events import Change, ChangeEvent, Event, Record, ResyncEvent, Values
from datasync.report import KeyReport, is_report
from datasync.reports.form import Digest, Place, Progress, encode
from datasync.reports.reader import Fleet

PLACE = Place("status/")
REFUSED = encode(KeyReport("config/a", "refused", "is bad", "00", 1.0, "config"))
OTHER = encode(KeyReport("config/b", "pending", "no eth0", None, 1.0, "config"))


def changed(**raws: bytes | None) -> Event[bytes]:
    changes = [
        Change[bytes](key, 0, None if raw is None else Record(raw, 0), None, _plain)
        for key, raw in raws.items()
    ]
    return ChangeEvent(revision=0, changes=changes)


def resynced(raws: dict[str, bytes]) -> Event[bytes]:
    pairs = [(key, Record(raw, 0)) for key, raw in raws.items()]
    values = {"": Values[bytes](pairs, _plain)}
    return ResyncEvent(revision=0, values=values, reason="start", _make_changes=list)


def _plain(key: str, raw: bytes) -> bytes:
    return raw


def progress_of(agent: str = "vpp1", at: float = 1.0, **records: bytes) -> bytes:
    digest = Digest()
    for name, raw in records.items():
        digest.add(f"config/{name}", raw)
    return encode(
        Progress(
            agent=agent, instance="1", time=at, lease=30.0, open=digest.value, layers=[], scopes=[]
        )
    )


def take(fleet: Fleet, event: Event[Any]) -> list[tuple[str, list[str]]]:
    return [(report.agent, list(report.open)) for report in fleet.take(event)]


def test_a_progress_is_believed_with_its_records_in_whatever_order_they_come() -> None:
    records = {"status/open/vpp1/config/a": REFUSED, "status/open/vpp1/config/b": OTHER}
    progress = {"status/progress/vpp1": progress_of(a=REFUSED, b=OTHER)}
    both = [("vpp1", ["config/a", "config/b"])]

    fleet = Fleet(PLACE)
    assert take(fleet, changed(**records)) == []
    assert take(fleet, changed(**progress)) == both

    fleet = Fleet(PLACE)
    assert take(fleet, changed(**progress)) == []
    first, second = records.items()
    assert take(fleet, changed(**dict([second]))) == []
    assert take(fleet, changed(**dict([first]))) == both
    assert take(fleet, changed()) == [], "it was told already"


def test_neither_another_value_nor_one_record_too_many_is_believed() -> None:
    fleet, key = Fleet(PLACE), "status/open/vpp1/config/a"
    assert take(fleet, changed(**{"status/progress/vpp1": progress_of(a=REFUSED)})) == []
    assert take(fleet, changed(**{key: OTHER})) == []
    assert take(fleet, changed(**{key: REFUSED, "status/open/vpp1/config/b": OTHER})) == []
    assert take(fleet, changed(**{"status/open/vpp1/config/b": None})) == [("vpp1", ["config/a"])]


def test_agents_are_told_apart_and_forgotten() -> None:
    fleet = Fleet(PLACE)
    two = {f"status/progress/{name}": progress_of(name) for name in ("vpp2", "vpp1")}
    assert take(fleet, resynced(two)) == [("vpp1", []), ("vpp2", [])]
    assert take(fleet, changed(**{"status/progress/vpp1": None})) == []
    assert take(fleet, resynced({"status/progress/vpp2": two["status/progress/vpp2"]})) == []
    assert take(fleet, resynced(two)) == [("vpp1", [])]


@pytest.mark.parametrize("wrong", [-1000.0, 1000.0])
def test_the_clock_of_an_agent_may_differ(wrong: float) -> None:
    """Once it was seen to report, it is there for its lease, and no longer."""
    here = time.time()
    fleet = Fleet(PLACE, lambda: here)

    def progress(at: float) -> dict[str, bytes]:
        return {"status/progress/vpp1": progress_of(at=at)}

    [report] = fleet.take(resynced(progress(here + wrong)))
    assert report.alive is (wrong > 0), "nobody knows its clock, nor how old that is"
    [report] = fleet.take(changed(**progress(here + wrong + 1)))
    assert report.alive
    assert report.age < 30
    [report] = fleet.take(resynced(progress(here + wrong - 31)))
    assert not report.alive

    assert fleet.take(resynced({})) == []
    [report] = fleet.take(resynced(progress(here + wrong)))
    assert report.alive is (wrong > 0), "it may be another machine"


def test_a_resync_shows_what_went_away_meanwhile() -> None:
    fleet, key = Fleet(PLACE), "status/open/vpp1/config/a"
    before = {key: REFUSED, "status/progress/vpp1": progress_of(a=REFUSED)}
    assert take(fleet, resynced(before)) == [("vpp1", ["config/a"])]
    assert take(fleet, resynced({"status/progress/vpp1": progress_of()})) == [("vpp1", [])]


def test_what_is_not_a_report_is_said_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet(PLACE)
    newer = progress_of().replace(b"progress/1", b"progress/2")
    with caplog.at_level(logging.WARNING, "datasync.reports"):
        assert take(fleet, resynced({"status/progress/vpp1": newer, "status/open/x": b"{"})) == []
    assert "status/progress/vpp1 is not a report that can be read here" in caplog.text
    assert take(fleet, changed(**{"status/progress/vpp1": progress_of()})) == [("vpp1", [])]


def test_a_digest_needs_no_order_and_forgets() -> None:
    digest, other = Digest(), Digest()
    digest.add("a", b"1")
    digest.add("b", b"2")
    other.add("b", b"2")
    other.add("a", b"1")
    assert digest.value == other.value
    assert digest.value.count == 2
    other.remove("a", b"1")
    other.remove("b", b"2")
    assert (other.value.count, other.value.digest) == (0, "0" * 64)


@pytest.mark.parametrize(
    ("raw", "is_one"),
    [
        (b'{"format":"datasync.open/1"}', True),
        (b'{"agent": "a", "format" : "datasync.answer/9"}', True),
        (b'{"format":"datasync.other/1"}', False),
        (b'{"like":{"format":"datasync.open/1"}}', False),
        (b'{"format":"datasync.open/1"', False),
        (b'{"format":["datasync.open/1"]}', False),
        (b'["datasync.open/1"]', False),
        (b'{"format":"datasync.open/1\xff"}', False),
        (b"", False),
    ],
)
def test_reports_are_known_by_their_format(raw: bytes, is_one: bool) -> None:
    assert is_report(raw) is is_one
