"""The reconciler on a real DataSync: what publishers hear, and what happens to the objects."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from datasync import (
    AlreadyRegistered,
    BadPrefix,
    DataSync,
    NotApplied,
    Refused,
    UsageError,
    Verdict,
)
from datasync.reconcile import Found, Kind, Needs, Reconciler, State
from datasync.testing.contract import eventually
from tests.helpers.servers import child


class Interface(msgspec.Struct, frozen=True):
    mtu: int = 1500


class Route(msgspec.Struct, frozen=True):
    via: str


class System:
    """What is really there."""

    def __init__(self) -> None:
        self.there: dict[str, object] = {}
        self.log: list[str] = []


class Interfaces(Kind[Interface, int]):
    def __init__(self, system: System) -> None:
        self.system = system
        self.error: Exception | None = None
        self.reads = 0

    async def create(self, key: str, value: Interface) -> int:
        if self.error is not None:
            raise self.error
        self.system.log.append(f"create {key}")
        self.system.there[key] = value
        return len(self.system.there)

    async def update(self, key: str, old: Interface, new: Interface, handle: int) -> int:
        self.system.log.append(f"update {key} {old.mtu} -> {new.mtu}")
        self.system.there[key] = new
        return handle

    async def delete(self, key: str, value: Interface, handle: int) -> None:
        self.system.log.append(f"delete {key}")
        del self.system.there[key]

    async def retrieve(
        self, expected: Mapping[str, Interface], keys: Collection[str] | None
    ) -> Iterable[Found[Interface, int]]:
        self.reads += 1
        return [
            Found(key, value, 1, ours=key != "if/lo")
            for key, value in self.system.there.items()
            if isinstance(value, Interface)
        ]

    def validate(self, key: str, value: Interface) -> None:
        if value.mtu < 68:
            raise ValueError(f"mtu {value.mtu} is too small")


class Routes:
    """No base, and plain methods: each runs in a thread."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.threads: set[int] = set()

    def create(self, key: str, value: Route) -> None:
        self.threads.add(threading.get_ident())
        self.system.log.append(f"create {key}")
        self.system.there[key] = value

    def delete(self, key: str, value: Route, handle: None) -> None:
        self.system.log.append(f"delete {key}")
        del self.system.there[key]

    def needs(self, key: str, value: Route) -> list[Needs]:
        return [Needs.key(f"if/{value.via}")]


class AsyncRule(Routes):
    def __init__(self) -> None: ...

    async def validate(self, key: str, value: Route) -> None: ...


class YieldedRule(Routes):
    def __init__(self) -> None: ...

    async def needs(self, key: str, value: Route) -> AsyncIterator[Needs]:  # type: ignore[override]
        yield Needs.key("if/0")


class YieldedHandle(Routes):
    def __init__(self) -> None: ...

    async def create(self, key: str, value: Route) -> AsyncIterator[None]:  # type: ignore[override]
        yield


class InNoTime(Routes):
    timeout = 0

    def __init__(self) -> None: ...


class Assuming(Kind[bytes, int]):
    def __init__(self, what: str) -> None:
        self.assume = what  # type: ignore[assignment]

    async def create(self, key: str, value: bytes) -> int:
        return 1

    async def delete(self, key: str, value: bytes, handle: int) -> None: ...


class AssumingThoughRead(Interfaces):
    assume = "applied"


class Agent:
    def __init__(self, sync: DataSync, rec: Reconciler, system: System, kinds: Interfaces) -> None:
        self.sync, self.rec, self.system, self.interfaces = sync, rec, system, kinds


@asynccontextmanager
async def agent(system: System | None = None, **stored: object) -> AsyncIterator[Agent]:
    system = system or System()
    async with DataSync("memory://") as sync:
        for key, value in stored.items():
            await sync.put(key.replace("_", "/"), value)
        rec = Reconciler(sync, ack_timeout=20.0)
        interfaces, routes = Interfaces(system), Routes(system)
        rec.add("if/", interfaces, type=Interface)
        rec.add("route/", routes, type=Route)
        async with rec:
            await sync.ready(60)
            yield Agent(sync, rec, system, interfaces)
            assert threading.get_ident() not in routes.threads


def run(test: object) -> None:
    asyncio.run(test)  # type: ignore[arg-type]


async def not_applied(writing: object) -> NotApplied:
    with pytest.raises(NotApplied) as info:
        await writing  # type: ignore[misc]
    return info.value


def reason(error: NotApplied) -> dict[str, str]:
    return {key: outcome.reason for key, outcome in error.outcomes.items()}


def test_a_route_waits_for_its_interface_and_its_publisher_hears_so() -> None:
    async def main() -> None:
        async with agent() as it:
            error = await not_applied(it.sync.put("route/a", Route("eth0"), confirm=60))
            assert error.verdict is Verdict.PENDING
            assert reason(error) == {"route/a": "waits for if/eth0"}
            assert it.rec.state("route/a") is State.PENDING

            await it.sync.put("if/eth0", Interface(), confirm=60)
            await it.rec.wait("route/a", State.APPLIED, 60)
            assert it.system.log == ["create if/eth0", "create route/a"]
            assert it.rec.handle("if/eth0") == 1
            # what was pending was reported: to write it again is accepted
            await it.sync.put("route/a", Route("eth0"), confirm=60)

    run(main())


def test_one_transaction_over_two_kinds_is_one_plan() -> None:
    async def main() -> None:
        async with agent() as it:
            txn = it.sync.txn().put("route/a", Route("eth0")).put("if/eth0", Interface())
            await txn.commit(confirm=60)
            assert it.system.log == ["create if/eth0", "create route/a"]

            await it.sync.txn().delete("if/eth0").delete("route/a").commit(confirm=60)
            assert it.system.log[2:] == ["delete route/a", "delete if/eth0"]

    run(main())


def test_an_invalid_value_is_refused_and_the_last_valid_one_stays() -> None:
    async def main() -> None:
        async with agent() as it:
            await it.sync.put("if/eth0", Interface(), confirm=60)
            error = await not_applied(it.sync.put("if/eth0", Interface(1), confirm=60))
            assert error.verdict is Verdict.REFUSED
            assert reason(error) == {"if/eth0": "mtu 1 is too small"}
            assert it.rec.state("if/eth0") is State.INVALID
            assert it.system.there["if/eth0"] == Interface()

    run(main())


def test_an_update_whose_needs_are_unmet_takes_the_object_down_and_is_pending() -> None:
    async def main() -> None:
        async with agent() as it:
            await it.sync.put("if/eth0", Interface(), confirm=60)
            await it.sync.put("route/a", Route("eth0"), confirm=60)
            error = await not_applied(it.sync.put("route/a", Route("eth1"), confirm=60))
            assert error.verdict is Verdict.PENDING
            assert reason(error) == {"route/a": "waits for if/eth1"}
            assert it.system.log[2:] == ["delete route/a"]

    run(main())


def test_each_publisher_hears_of_a_cycle_by_name() -> None:
    class Things(Kind[str, None]):
        async def create(self, key: str, value: str) -> None: ...

        async def delete(self, key: str, value: str, handle: None) -> None: ...

        def needs(self, key: str, value: str) -> list[Needs]:
            return [Needs.key(value)]

    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=20.0)
            rec.add("x/", Things(), type=str)
            async with rec:
                writing = sync.txn().put("x/a", "x/b").put("x/b", "x/a").put("x/c", "x/c")
                error = await not_applied(writing.commit(confirm=60))
                assert reason(error) == {
                    "x/a": "waits for x/b; a cycle: x/a -> x/b -> x/a",
                    "x/b": "waits for x/a; a cycle: x/b -> x/a -> x/b",
                    "x/c": "needs itself (x/c)",
                }

    run(main())


def test_what_was_cut_off_by_its_timeout_is_read_before_it_is_tried_again() -> None:
    log: list[str] = []

    class Slow(Kind[bytes, int]):
        timeout = 0.05

        async def create(self, key: str, value: bytes) -> int:
            log.append("create")
            await asyncio.get_running_loop().create_future()
            return 1

        async def delete(self, key: str, value: bytes, handle: int) -> None: ...

        async def retrieve(
            self, expected: object, keys: Collection[str] | None
        ) -> list[Found[bytes, int]]:
            if keys is None:
                return []
            log.append("retrieve")
            return [Found("x/a", b"", 9)]  # it was made all the same

    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=20.0)
            rec.add("x/", Slow())
            async with rec:
                await sync.put("x/a", b"")
                await rec.wait("x/a", State.APPLIED, 60)
                assert rec.handle("x/a") == 9

    run(main())
    assert log == ["create", "retrieve"]


def test_what_others_changed_is_repaired_at_intervals() -> None:
    async def main() -> None:
        system = System()
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=20.0, refresh_interval=0.05)
            rec.add("if/", Interfaces(system), type=Interface)
            async with rec:
                await sync.put("if/eth0", Interface(), confirm=60)
                system.there["if/eth0"] = Interface(1400)
                await eventually(lambda: system.there["if/eth0"] == Interface())
                del system.there["if/eth0"]
                await eventually(lambda: "if/eth0" in system.there)

    run(main())


@pytest.mark.parametrize("taken", [True, False])
def test_a_kind_says_what_becomes_of_objects_of_which_nobody_knows_whose_they_are(
    taken: bool,
) -> None:
    class Unsure(Interfaces):
        delete_unknown = taken

        async def retrieve(
            self, expected: Mapping[str, Interface], keys: Collection[str] | None
        ) -> Iterable[Found[Interface, int]]:
            found = await super().retrieve(expected, keys)
            return [Found(one.key, one.value, one.handle) for one in found]

    async def main() -> None:
        system = System()
        system.there = {"if/eth0": Interface()}
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=20.0)
            rec.add("if/", Unsure(system), type=Interface)
            async with rec:
                await sync.put("if/eth1", Interface(), confirm=60)
                await rec.wait("if/eth0", None if taken else State.UNMANAGED, 60)
                assert ("if/eth0" in system.there) is not taken

    run(main())


def test_what_fails_is_told_and_tried_again() -> None:
    async def main() -> None:
        async with agent() as it:
            it.interfaces.error = OSError("no such device")
            error = await not_applied(it.sync.put("if/eth0", Interface(), confirm=60))
            assert error.verdict is Verdict.FAILED
            assert "no such device" in reason(error)["if/eth0"]

            it.interfaces.error = None
            await it.rec.wait("if/eth0", State.APPLIED, 60)

    run(main())


def test_a_value_that_is_refused_as_it_is_applied_is_invalid() -> None:
    async def main() -> None:
        async with agent() as it:
            it.interfaces.error = Refused("the kernel says no")
            error = await not_applied(it.sync.put("if/eth0", Interface(), confirm=60))
            assert error.verdict is Verdict.REFUSED
            assert it.rec.reason("if/eth0") == "the kernel says no"

    run(main())


def test_at_the_start_only_what_differs_is_changed_and_what_is_not_ours_is_left() -> None:
    async def main() -> None:
        system = System()
        system.there = {
            "if/eth0": Interface(),
            "if/eth1": Interface(9000),
            "if/old": Interface(),
            "if/lo": Interface(),
        }
        async with agent(system, if_eth0=Interface(), if_eth1=Interface()) as it:
            await it.rec.wait("if/eth1", State.APPLIED, 60)
            await it.rec.wait("if/old", None, 60)
            assert sorted(system.log) == ["delete if/old", "update if/eth1 9000 -> 1500"]
            assert it.rec.state("if/lo") is State.UNMANAGED

    run(main())


def test_nothing_is_read_and_nothing_taken_down_before_the_store_has_answered() -> None:
    async def main() -> None:
        system = System()
        system.there = {"if/eth0": Interface()}
        sync = DataSync("memory://")
        rec = Reconciler(sync)
        interfaces = Interfaces(system)
        rec.add("if/", interfaces, type=Interface)
        await rec.start()
        rec.notify("if/eth0", Found("if/eth0", Interface(), 1, ours=True))
        for _ in range(20):
            await asyncio.sleep(0)
        assert interfaces.reads == 0
        assert system.log == []

        async with sync:
            await eventually(lambda: system.log == ["delete if/eth0"])
            await rec.refresh()
            assert system.log == ["delete if/eth0"]
            await rec.aclose()

    run(main())


def test_what_others_changed_is_repaired() -> None:
    async def main() -> None:
        async with agent() as it:
            await it.sync.put("if/eth0", Interface(), confirm=60)
            await it.sync.put("route/a", Route("eth0"), confirm=60)

            it.system.there["if/eth0"] = Interface(1400)
            await it.rec.refresh()
            await it.rec.wait("if/eth0", State.APPLIED, 60)
            assert it.system.log[2:] == ["update if/eth0 1400 -> 1500"]

            del it.system.there["if/eth0"]
            it.rec.notify("if/eth0", None)
            await it.rec.wait("route/a", State.APPLIED, 60)
            assert it.system.log[3:] == ["delete route/a", "create if/eth0", "create route/a"]

    run(main())


def test_a_thread_that_does_not_come_back_is_running_and_keeps_nobody() -> None:
    release = threading.Event()

    class Slow:
        def create(self, key: str, value: bytes) -> None:
            release.wait(100)

        def delete(self, key: str, value: bytes, handle: None) -> None: ...

    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=0.05)
            rec.add("slow/", Slow())
            async with rec:
                error = await not_applied(sync.put("slow/a", b"", confirm=60))
                assert error.verdict is Verdict.PENDING
                assert reason(error) == {"slow/a": "running"}
                release.set()
                await rec.wait("slow/a", State.APPLIED, 60)

    run(main())


def test_an_async_operation_has_a_time_limit_and_may_cancel_itself() -> None:
    class Hanging(Kind[bytes, None]):
        timeout = 0.01

        async def create(self, key: str, value: bytes) -> None:
            if key == "x/hangs":
                await asyncio.get_running_loop().create_future()
            if key == "x/is cancelled" and (task := asyncio.current_task()) is not None:
                task.cancel()
                await asyncio.sleep(0)
            raise asyncio.CancelledError

        async def delete(self, key: str, value: bytes, handle: None) -> None: ...

    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=20.0)
            rec.add("x/", Hanging())
            async with rec:
                error = await not_applied(sync.put("x/hangs", b"", confirm=60))
                assert reason(error)["x/hangs"].endswith("no answer within 0.01 s")
                error = await not_applied(sync.put("x/cancels", b"", confirm=60))
                assert reason(error)["x/cancels"].endswith("cancelled by itself")
                error = await not_applied(sync.put("x/is cancelled", b"", confirm=60))
                assert reason(error)["x/is cancelled"].endswith("cancelled")

    run(main())


@pytest.mark.parametrize(
    "told",
    [
        None,
        [1],
        [Found("other/a", b"", None)],
        [Found("x/a", b"", None), Found("x/a", b"", None)],
        ZeroDivisionError("broken"),
    ],
    ids=["nothing", "no Found", "a foreign key", "a key twice", "it raises"],
)
def test_nothing_is_touched_while_what_is_there_cannot_be_read(told: object) -> None:
    class Lying:
        async def create(self, key: str, value: bytes) -> None:
            raise AssertionError("it must not be called")

        async def delete(self, key: str, value: bytes, handle: None) -> None: ...

        async def retrieve(self, expected: object, keys: object) -> object:
            if isinstance(told, Exception):
                raise told
            return told

    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=0.1)
            rec.add("x/", Lying())
            async with rec:
                error = await not_applied(sync.put("x/a", b"", confirm=60))
                assert error.verdict is Verdict.PENDING
                assert "could not be read" in rec.reason("x/a")

    run(main())


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
def test_a_retrieve_that_hangs_holds_up_only_its_own_kind(plain: bool) -> None:
    release = threading.Event()
    asked: list[object] = []

    class Plain(Kind[bytes, None]):
        timeout = 0.2

        def create(self, key: str, value: bytes) -> None: ...

        def delete(self, key: str, value: bytes, handle: None) -> None: ...

        def retrieve(self, expected: object, keys: object) -> list[Found[bytes, None]]:
            asked.append(expected)
            release.wait(100)
            return []

    class Stubborn(Kind[bytes, None]):
        timeout = 0.2

        async def create(self, key: str, value: bytes) -> None: ...

        async def delete(self, key: str, value: bytes, handle: None) -> None: ...

        async def retrieve(self, expected: object, keys: object) -> list[Found[bytes, None]]:
            asked.append(expected)
            while not release.is_set():
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)
            return []

    async def main() -> None:
        system = System()
        system.there = {"if/old": Interface()}
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=0.2)
            rec.add("x/", Plain() if plain else Stubborn())
            rec.add("if/", Interfaces(system), type=Interface)
            try:
                async with rec:
                    error = await not_applied(sync.put("x/a", b"", confirm=60))
                    assert error.verdict is Verdict.PENDING
                    await sync.put("if/new", Interface())
                    await rec.wait("if/new", State.APPLIED, 60)
                    await rec.wait("if/old", None, 60)
                    assert sorted(system.log) == ["create if/new", "delete if/old"]
                    assert "no answer within 0.2 s" in rec.reason("x/a")

                    await rec.refresh()
                    assert asked.count({"x/a": b""}) + asked.count({}) == 1
                    release.set()
                    await rec.wait("x/a", State.APPLIED, 60)
            finally:
                release.set()

    run(main())


def test_kinds_are_read_in_the_order_of_their_needs() -> None:
    order: list[str] = []

    class Read(Kind[bytes, int]):
        def __init__(self, rec: Reconciler, name: str, *needs: str) -> None:
            self.rec = rec
            self.name = name
            self.needed = needs

        async def create(self, key: str, value: bytes) -> int:
            return 1

        async def delete(self, key: str, value: bytes, handle: int) -> None: ...

        async def retrieve(self, expected: object, keys: object) -> list[Found[bytes, int]]:
            await asyncio.sleep(0)
            order.append(self.name)
            if self.name == "b":
                assert self.rec.handle("a/1") == 7
            return [Found("a/1", b"", 7)] if self.name == "a" else []

        def needs(self, key: str, value: bytes) -> list[Needs]:
            return [Needs.key(need) for need in self.needed]

    async def main() -> None:
        async with DataSync("memory://") as sync:
            for key in ("a/1", "b/1", "c/1", "d/1"):
                await sync.put(key, b"")
            rec = Reconciler(sync)
            # c and d need each other
            for name, *needs in (("d", "c/1"), ("c", "b/1", "d/1"), ("b", "a/1"), ("a",)):
                rec.add(f"{name}/", Read(rec, name, *needs))
            async with rec:
                await rec.wait("b/1", State.APPLIED, 60)
            assert order[:2] == ["a", "b"]
            assert sorted(order) == ["a", "b", "c", "d"]

    run(main())


def test_what_is_found_by_the_kind_of_another_is_a_lie() -> None:
    class Liar(Kind[bytes, None]):
        def create(self, key: str, value: bytes) -> None: ...

        def delete(self, key: str, value: bytes, handle: None) -> None: ...

        def retrieve(self, expected: object, keys: object) -> Iterable[Found[bytes, None]]:
            yield Found("x/y/a", b"", None)

    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=0.1)
            rec.add("x/", Liar())
            rec.add("x/y/", Routes(System()), type=Route)
            async with rec:
                await not_applied(sync.put("x/a", b"", confirm=60))
                assert "found 'x/y/a', which is of the kind Routes" in rec.reason("x/a")

    run(main())


def test_an_awaitable_of_a_plain_method_is_awaited() -> None:
    class Wrapped:
        def create(self, key: str, value: bytes) -> object:
            async def create() -> int:
                return 5

            return create()

        def delete(self, key: str, value: bytes, handle: int) -> None: ...

    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=20.0)
            rec.add("x/", Wrapped())
            async with rec:
                await sync.put("x/a", b"", confirm=60)
                assert rec.handle("x/a") == 5

    run(main())


def test_a_create_that_returns_nothing_where_a_handle_is_promised_has_failed() -> None:
    class Forgetful(Kind[bytes, int]):
        async def create(self, key: str, value: bytes) -> int:
            return None  # type: ignore[return-value]

        async def delete(self, key: str, value: bytes, handle: int) -> None: ...

    class Reading(Forgetful):
        async def retrieve(self, expected: object, keys: object) -> list[Found[bytes, int]]:
            return [] if keys is None else [Found("y/a", b"", 7)]

    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=20.0)
            rec.add("x/", Forgetful())
            rec.add("y/", Reading())
            async with rec:
                error = await not_applied(sync.put("x/a", b"", confirm=60))
                assert error.verdict is Verdict.FAILED
                assert reason(error)["x/a"].endswith("returned None; its handles are int")
                # what can be read is read then, and has a handle
                await sync.put("y/a", b"")
                await rec.wait("y/a", State.APPLIED, 60)
                assert rec.handle("y/a") == 7

    run(main())


@pytest.mark.parametrize("assumed", ["absent", "applied"])
def test_a_kind_that_cannot_be_read_says_what_is_there_at_the_start(assumed: str) -> None:
    log: list[str] = []

    class Blind(Kind[bytes, None]):
        assume = assumed  # type: ignore[assignment]

        async def create(self, key: str, value: bytes) -> None:
            log.append(f"create {key}")

        async def update(self, key: str, old: bytes, new: bytes, handle: None) -> None:
            log.append(f"update {key} {old!r} -> {new!r}")

        async def delete(self, key: str, value: bytes, handle: None) -> None: ...

    async def main() -> None:
        async with DataSync("memory://") as sync:
            await sync.put("x/a", b"1")
            rec = Reconciler(sync, ack_timeout=20.0)
            rec.add("x/", Blind())
            async with rec:
                await rec.wait("x/a", State.APPLIED, 60)
                await sync.put("x/a", b"2", confirm=60)
                await sync.put("x/b", b"1", confirm=60)
                await rec.refresh()

    run(main())
    began = ["create x/a"] if assumed == "absent" else []
    assert log == [*began, "update x/a b'1' -> b'2'", "create x/b"]


def test_what_makes_no_sense_is_said_at_once() -> None:
    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync)
            with pytest.raises(UsageError, match="needs a kind"):
                await rec.start()
            rec.add("x/", Routes(System()))
            with pytest.raises(AlreadyRegistered, match="two kinds"):
                rec.add("x/", Routes(System()))
            with pytest.raises(BadPrefix, match="ends in a slash"):
                rec.add("y", Routes(System()))
            with pytest.raises(UsageError, match="no method 'create'"):
                rec.add("y/", object())
            with pytest.raises(UsageError, match="Routes is a class; give an object of it"):
                rec.add("y/", Routes)
            with pytest.raises(UsageError, match="'validate' of AsyncRule is async"):
                rec.add("y/", AsyncRule())
            with pytest.raises(UsageError, match="'needs' of YieldedRule is an async generator"):
                rec.add("y/", YieldedRule())
            with pytest.raises(UsageError, match="'create' of YieldedHandle is an async generator"):
                rec.add("y/", YieldedHandle())
            with pytest.raises(UsageError, match="timeout of InNoTime must be a positive number"):
                rec.add("y/", InNoTime())
            with pytest.raises(UsageError, match="must be 'absent' or 'applied', got 'gone'"):
                rec.add("y/", Assuming("gone"))
            with pytest.raises(UsageError, match="nobody would know the handles"):
                rec.add("y/", Assuming("applied"))
            with pytest.raises(UsageError, match="does not have to assume anything"):
                rec.add("y/", AssumingThoughRead(System()))
            with pytest.raises(UsageError, match="must be 'leave' or 'delete', got 'drop'"):
                Reconciler(sync, on_close="drop")  # type: ignore[arg-type]
            with pytest.raises(UsageError, match="close_timeout must be a positive number"):
                Reconciler(sync, close_timeout=0)
            with pytest.raises(UsageError, match="positive number"):
                Reconciler(sync, ack_timeout=0)
            async with rec:
                with pytest.raises(UsageError, match="register kinds before"):
                    rec.add("y/", Routes(System()))
                with pytest.raises(UsageError, match="no kind has a prefix"):
                    rec.notify("z", None)
                with pytest.raises(UsageError, match="notified of 'x/a', and 'x/b' was found"):
                    rec.notify("x/a", Found("x/b", Route("if/0"), None))
                with pytest.raises(TypeError, match="is not a Found"):
                    rec.notify("x/a", Route("if/0"))  # type: ignore[arg-type]
                with pytest.raises(TimeoutError, match="'x/a' is absent"):
                    await rec.wait("x/a", State.APPLIED, 0.01)
                with pytest.raises(UsageError, match="must be a State or None, got 'applied'"):
                    await rec.wait("x/a", "applied")  # type: ignore[arg-type]
                with pytest.raises(KeyError):
                    rec.handle("x/a")

    run(main())


@pytest.mark.parametrize("allowed", [True, False])
def test_a_kind_may_allow_that_an_operation_is_cancelled_for_a_newer_value(allowed: bool) -> None:
    log: list[str] = []
    begun = asyncio.Event()
    go_on = asyncio.Event()
    there: dict[str, bytes] = {}

    class Slow(Kind[bytes, None]):
        cancellable = allowed

        async def create(self, key: str, value: bytes) -> None:
            log.append(f"create {value!r}")
            there[key] = value  # half of it is done
            begun.set()
            await go_on.wait()

        async def update(self, key: str, old: bytes, new: bytes, handle: None) -> None:
            log.append(f"update {old!r} -> {new!r}")
            there[key] = new

        async def delete(self, key: str, value: bytes, handle: None) -> None:
            log.append(f"delete {value!r}")
            del there[key]

        async def retrieve(
            self, expected: object, keys: Collection[str] | None
        ) -> list[Found[bytes, None]]:
            if keys is not None:
                log.append("retrieve")
            return [Found(key, value, None) for key, value in there.items()]

    async def main() -> None:
        async with DataSync("memory://") as sync:
            # so long the next transaction waits for the first one
            rec = Reconciler(sync, ack_timeout=0.2)
            rec.add("x/", Slow())
            async with rec:
                await sync.put("x/a", b"1")
                await begun.wait()
                await sync.put("x/a", b"2")
                if not allowed:
                    go_on.set()
                await eventually(lambda: there == {"x/a": b"2"})
                await rec.wait("x/a", State.APPLIED, 60)

    run(main())
    again = ["retrieve"] if allowed else []
    assert log == ["create b'1'", *again, "update b'1' -> b'2'"]


def test_what_runs_in_a_thread_is_not_cancelled() -> None:
    begun, release = threading.Event(), threading.Event()
    log: list[bytes] = []

    class Plain(Kind[bytes, None]):
        cancellable = True

        def create(self, key: str, value: bytes) -> None:
            begun.set()
            release.wait(100)
            log.append(value)

        def update(self, key: str, old: bytes, new: bytes, handle: None) -> None:
            log.append(new)

        def delete(self, key: str, value: bytes, handle: None) -> None: ...

    async def main() -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=0.05)
            rec.add("x/", Plain())
            async with rec:
                await sync.put("x/a", b"1")
                await eventually(begun.is_set)
                error = await not_applied(sync.put("x/a", b"2", confirm=60))
                assert error.verdict is Verdict.PENDING
                assert log == []
                release.set()
                await eventually(lambda: log == [b"1", b"2"])
                await rec.wait("x/a", State.APPLIED, 60)

    try:
        run(main())
    finally:
        release.set()


def test_closing_may_take_everything_down_in_order() -> None:
    async def main() -> None:
        system = System()
        system.there = {"if/lo": Interface()}
        async with DataSync("memory://") as sync:
            rec = Reconciler(sync, ack_timeout=20.0, on_close="delete")
            rec.add("if/", Interfaces(system), type=Interface)
            rec.add("route/", Routes(system), type=Route)
            async with rec:
                await sync.put("route/a", Route("eth0"))
                await sync.put("if/eth0", Interface(), confirm=60)
                await rec.wait("route/a", State.APPLIED, 60)
            assert system.log[2:] == ["delete route/a", "delete if/eth0"]
            assert system.there == {"if/lo": Interface()}
            assert await sync.get("if/eth0") is not None  # it is still stored

    run(main())


def test_what_cannot_be_taken_down_when_closing_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stuck(Kind[bytes, None]):
        async def create(self, key: str, value: bytes) -> None: ...

        async def delete(self, key: str, value: bytes, handle: None) -> None:
            if key == "x/hangs":
                await asyncio.get_running_loop().create_future()
            raise OSError("busy")

        def is_permanent(self, error: BaseException) -> bool:
            return True

    async def main(*keys: str, close_timeout: float) -> None:
        async with DataSync("memory://") as sync:
            rec = Reconciler(
                sync, ack_timeout=20.0, on_close="delete", close_timeout=close_timeout
            )  # fmt: skip
            rec.add("x/", Stuck())
            async with rec:
                for key in keys:
                    await sync.put(key, b"", confirm=60)
        assert rec.state(keys[-1]) in (State.FAILED, State.REMOVING)

    run(main("x/busy", close_timeout=100.0))  # nothing is to be waited for
    assert "1 objects were not taken down when closing: x/busy" in caplog.text
    run(main("x/hangs", close_timeout=0.05))
    assert "1 objects were not taken down when closing: x/hangs" in caplog.text


def test_nothing_is_taken_down_when_closing_before_the_store_has_answered() -> None:
    async def main() -> None:
        system = System()
        system.there = {"if/eth0": Interface()}
        sync = DataSync("memory://")
        rec = Reconciler(sync, on_close="delete")
        rec.add("if/", Interfaces(system), type=Interface)
        await rec.start()
        await rec.aclose()
        await rec.aclose()
        assert system.log == []

    run(main())


_AGENT = """
import asyncio
from datasync import DataSync
from datasync.reconcile import Kind, Needs, Reconciler

class Things(Kind[bytes, None]):
    async def create(self, key, value):
        print("create", key, flush=True)

    async def delete(self, key, value, handle):
        await asyncio.sleep(0.01)
        print("delete", key, flush=True)

    def needs(self, key, value):
        return [Needs.key("x/a")] if key == "x/b" else []

async def main():
    async with DataSync("memory://") as sync:
        rec = Reconciler(sync, on_close="delete")
        rec.add("x/", Things())
        async with rec:
            await sync.put("x/a", b"")
            await sync.put("x/b", b"")
            await asyncio.get_running_loop().create_future()

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_takes_everything_down_in_order() -> None:
    command = [sys.executable, "-c", _AGENT]
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        assert [agent.stdout.readline() for _ in range(2)] == ["create x/a\n", "create x/b\n"]
        agent.send_signal(signal.SIGINT)
        output, errors = agent.communicate(timeout=60)
    assert output.splitlines() == ["delete x/b", "delete x/a", "interrupted"]
    assert errors == ""
    assert agent.returncode == 0


def test_closing_leaves_the_objects_as_they_are() -> None:
    async def main() -> None:
        system = System()
        async with agent(system) as it:
            await it.sync.put("if/eth0", Interface(), confirm=60)
        assert system.log == ["create if/eth0"]
        with pytest.raises(UsageError, match="does not run"):
            await it.rec.refresh()

    run(main())
