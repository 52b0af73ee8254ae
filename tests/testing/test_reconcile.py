"""The harness for unit tests of kinds: what is stored, found and broken leads to operations."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec
import pytest

from datasync import AlreadyRegistered, BadPrefix, Refused, UsageError
from datasync.reconcile import Found, Kind, Needs, State
from datasync.testing.reconcile import Harness


class Interface(msgspec.Struct, frozen=True):
    mtu: int = 1500
    addresses: tuple[str, ...] = ()


class Route(msgspec.Struct, frozen=True):
    via: str


class Interfaces(Kind[Interface, int]):
    """Its operations are never called: the harness stands in for the system."""

    timeout = 5.0

    async def create(self, key: str, value: Interface) -> int:
        raise AssertionError

    async def update(self, key: str, old: Interface, new: Interface, handle: int) -> int:
        raise AssertionError

    async def delete(self, key: str, value: Interface, handle: int) -> None:
        raise AssertionError

    async def retrieve(
        self, expected: Mapping[str, Interface], keys: Collection[str] | None
    ) -> Iterable[Found[Interface, int]]:
        raise AssertionError

    def derive(self, key: str, value: Interface) -> dict[str, str]:
        return {f"address/{key.removeprefix('if/')}/{one}": one for one in value.addresses}

    def validate(self, key: str, value: Interface) -> None:
        if value.mtu < 68:
            raise ValueError(f"mtu {value.mtu} is too small")


class Routes:
    """No base, no way to read what is there, and plain."""

    def create(self, key: str, value: Route) -> None:
        raise AssertionError

    def delete(self, key: str, value: Route, handle: None) -> None:
        raise AssertionError

    def needs(self, key: str, value: Route) -> list[Needs]:
        return [Needs.key(f"if/{value.via}", goes_with=True)]


class Addresses:
    """Really carried out."""

    def __init__(self) -> None:
        self.there: dict[str, str] = {}

    def create(self, key: str, value: str) -> str:
        self.there[key] = value
        return f"handle of {value}"

    async def delete(self, key: str, value: str, handle: str) -> None:
        assert handle == f"handle of {value}"
        del self.there[key]

    def retrieve(self, expected: object, keys: object) -> list[Found[str, str]]:
        return [Found(key, value, f"handle of {value}", True) for key, value in self.there.items()]


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness() as harness:
        harness.add("if/", Interfaces(), type=Interface)
        harness.add("route/", Routes(), type=Route)
        harness.add("address/", Addresses(), type=str, derived=True, carry_out=True)
        yield harness
        assert harness.check() == []


def test_objects_go_in_and_operations_come_out_in_order(harness: Harness) -> None:
    assert harness.put("route/a", Route("eth0")) == []
    assert harness.state("route/a") is State.PENDING
    assert harness.reason("route/a") == "waits for if/eth0"
    assert harness.put("if/eth0", Interface()) == ["create if/eth0", "create route/a"]
    assert harness.put("if/eth0", Interface(9000)) == ["update if/eth0"]
    assert harness.there == {"if/eth0": Interface(9000), "route/a": Route("eth0")}

    moved = {"if/eth1": Interface(), "route/a": Route("eth1")}
    assert harness.apply(moved, ["if/eth0"]) == [
        "create if/eth1",
        "delete if/eth0",
        "create route/a",
    ]
    create, delete = harness.steps[0], harness.steps[-2]
    assert (create.old, create.new, create.handle) == (None, Interface(), None)
    assert (delete.old, delete.new, delete.handle) == (Interface(9000), None, 1)


def test_what_is_invalid_leads_to_no_operation(harness: Harness) -> None:
    assert harness.put("if/eth0", Interface(1)) == []
    assert harness.state("if/eth0") is State.INVALID
    assert harness.reason("if/eth0") == "mtu 1 is too small"


def test_an_injected_failure_is_read_and_tried_again_when_time_has_passed(
    harness: Harness,
) -> None:
    harness.fail("create if/eth0", OSError("no such device"), times=2)
    assert harness.put("if/eth0", Interface()) == ["create if/eth0 failed"]
    assert harness.state("if/eth0") is State.FAILED
    assert "no such device" in harness.reason("if/eth0")
    assert harness.there == {}
    assert harness.advance(0.05) == []
    assert harness.advance(0.1) == ["create if/eth0 failed"]
    assert harness.advance(0.3) == ["create if/eth0"]
    assert isinstance(harness.steps[0].error, OSError)
    assert harness.steps[-1].error is None


def test_what_fails_after_it_took_effect_is_found_and_not_done_again(harness: Harness) -> None:
    harness.fail("create if/eth0", OSError("connection lost"), done=True)
    assert harness.put("if/eth0", Interface()) == ["create if/eth0 failed"]
    assert harness.state("if/eth0") is State.APPLIED
    assert harness.advance(60) == []


def test_a_value_that_the_system_refuses_is_invalid(harness: Harness) -> None:
    harness.fail("create if/eth0", Refused("the kernel says no"))
    assert harness.put("if/eth0", Interface()) == ["create if/eth0 failed"]
    assert harness.state("if/eth0") is State.INVALID


def test_what_hangs_runs_into_its_time_limit(harness: Harness) -> None:
    harness.hang("create if/eth0")
    assert harness.put("if/eth0", Interface()) == ["create if/eth0 hangs"]
    assert harness.put("route/a", Route("eth0")) == []
    assert harness.state("if/eth0") is State.RUNNING
    assert harness.advance(4) == []
    assert harness.advance(2) == ["create if/eth0", "create route/a"]
    assert str(harness.steps[0]) == "create if/eth0 failed"


def test_what_is_plain_has_no_time_limit_to_run_into(harness: Harness) -> None:
    harness.put("if/eth0", Interface())
    harness.hang("create route/a")
    assert harness.put("route/a", Route("eth0")) == ["create route/a failed"]
    assert "create() of Routes is plain" in harness.reason("route/a")


def test_what_was_changed_by_hand_is_repaired(harness: Harness) -> None:
    harness.put("if/eth0", Interface())
    harness.put("route/a", Route("eth0"))

    harness.find("if/eth0", Interface(1400))
    assert harness.advance(60) == []
    assert harness.refresh() == ["update if/eth0"]
    assert harness.there["if/eth0"] == Interface()

    harness.lose("if/eth0")
    assert harness.there == {}  # the route goes with it
    assert harness.notify("if/eth0") == ["create if/eth0", "create route/a"]

    harness.find("if/more", Interface())
    harness.find("if/others", Interface(), ours=False)
    assert harness.refresh() == ["delete if/more"]
    assert harness.state("if/others") is State.UNMANAGED


def test_what_goes_with_something_is_not_deleted_a_second_time(harness: Harness) -> None:
    harness.put("if/eth0", Interface())
    harness.put("route/a", Route("eth0"))
    assert harness.delete("if/eth0") == ["delete if/eth0"]
    assert harness.there == {}
    assert harness.state("route/a") is State.PENDING


def test_at_the_start_only_what_differs_is_changed(harness: Harness) -> None:
    harness.find("if/eth0", Interface())
    harness.find("if/eth1", Interface(9000))
    harness.find("if/old", Interface())
    stored = {"if/eth0": Interface(), "if/eth1": Interface()}
    assert harness.apply(stored) == ["delete if/old", "update if/eth1"]


def test_a_crash_cuts_off_what_runs_and_the_next_start_reads_what_is_there(
    harness: Harness,
) -> None:
    harness.hang("create if/eth0", done=True)
    assert harness.put("if/eth0", Interface()) == ["create if/eth0 hangs"]
    assert harness.restart() == []
    assert harness.state("if/eth0") is State.APPLIED
    assert harness.handle("if/eth0") == 1


def test_a_start_with_an_empty_store_takes_down_what_is_ours(harness: Harness) -> None:
    harness.find("if/eth0", Interface())
    assert harness.restart() == ["delete if/eth0"]


def test_what_is_carried_out_is_written_down_as_well(harness: Harness) -> None:
    value = Interface(addresses=("10.0.0.1/24",))
    assert harness.put("if/eth0", value) == ["create if/eth0", "create address/eth0/10.0.0.1/24"]
    assert harness.handle("address/eth0/10.0.0.1/24") == "handle of 10.0.0.1/24"
    assert harness.restart() == []
    assert harness.delete("if/eth0") == ["delete address/eth0/10.0.0.1/24", "delete if/eth0"]
    with pytest.raises(UsageError, match="carried out by its kind"):
        harness.find("address/eth0/10.0.0.2/24", "10.0.0.2/24")


def test_what_is_carried_out_is_held_against_what_the_kind_promises() -> None:
    class Forgetful(Kind[bytes, int]):
        def create(self, key: str, value: bytes) -> int:
            return None  # type: ignore[return-value]

        def delete(self, key: str, value: bytes, handle: int) -> None: ...

    with Harness() as harness:
        harness.add("x/", Forgetful(), carry_out=True)
        harness.put("x/a", b"")
        assert harness.state("x/a") is State.FAILED
        assert "create() of Forgetful returned None" in harness.reason("x/a")


def test_what_makes_no_sense_is_said_at_once(harness: Harness) -> None:
    with pytest.raises(UsageError, match="no method 'create'"):
        harness.add("x/", object())
    with pytest.raises(BadPrefix):
        harness.add("x", Routes())
    with pytest.raises(AlreadyRegistered):
        harness.add("if/", Routes())
    with pytest.raises(UsageError, match="name an operation"):
        harness.fail("make if/eth0", OSError())
    with pytest.raises(UsageError, match="times must be"):
        harness.fail("create if/eth0", OSError(), times=0)
    with pytest.raises(UsageError, match="no kind has a prefix of 'x/a'"):
        harness.hang("create x/a")
    with pytest.raises(UsageError, match="does not run"):
        harness.refresh()
    harness.put("if/eth0", Interface())
    with pytest.raises(UsageError, match="register kinds before"):
        harness.add("x/", Routes())

    async def within() -> None:
        harness.put("if/eth0", Interface())

    with pytest.raises(UsageError, match="not async"):
        asyncio.run(within())
    with pytest.raises(UsageError, match="not entered"):
        Harness().put("if/eth0", Interface())
