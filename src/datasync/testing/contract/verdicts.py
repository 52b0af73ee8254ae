"""G7, the side of the publisher: `confirm` waits for what the watches made of a write."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
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
    UnsupportedOption,
    Verdict,
)
from datasync.outcome import KeyOutcome
from datasync.testing.contract.feedback import Item
from datasync.testing.contract.harness import Store, fill
from datasync.testing.contract.scenario import Base, scenario
from datasync.testing.contract.waiting import eventually

IN_FLIGHT = 2_000
FAILED = Verdict.FAILED


async def verdict_of(
    sync: DataSync, key: str, value: bytes, confirm: float | bool = True
) -> NotApplied:
    """Put and expect a verdict other than ACCEPTED."""
    with pytest.raises(NotApplied) as caught:
        await sync.put(key, value, confirm=confirm)
    return caught.value


class Verdicts(Base):
    """Verdicts at the publisher (G7)."""

    @scenario(writes=True)
    async def test_g7_accepted(self, store: Store) -> None:
        sync = store.open()
        probes = [store.probe(sync, f"watch {i}", "a/") for i in range(2)]
        async with sync:
            await sync.ready(60)
            revision = await sync.put("a/1", b"1", confirm=True)
            assert all(probe.state == {"a/1": b"1"} for probe in probes)
            assert (revision is not None) is store.capabilities.revisions
            # nothing differs: accepted as well, though no watch hears of it
            await sync.put("a/1", b"1", confirm=True)
            assert await sync.delete("a/1", confirm=True) is True
            assert all(not probe.state for probe in probes)
            assert [len(probe.changes) for probe in probes] == [2, 2]

    @scenario(writes=True)
    async def test_g7_a_deleted_prefix_has_its_verdict(self, store: Store) -> None:
        sync = store.open()
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            await fill(sync, {"a/1": b"1", "a/b/2": b"2", "c/1": b"1"}, store.capabilities)
            await eventually(lambda: len(probe.state) == 2)
            assert await sync.delete("a/", prefix=True, confirm=True) is True
            assert not probe.state
            with pytest.raises(NotApplied) as caught:
                await sync.delete("c/", prefix=True, confirm=True)
            assert caught.value.verdict is Verdict.UNWATCHED
            assert await sync.get("c/1") is None

    @scenario(writes=True)
    async def test_g7_a_delete_in_vain_is_accepted_beside_a_write_that_nobody_watches(
        self, store: Store
    ) -> None:
        sync = store.open()
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            if store.capabilities.transactions:
                await sync.txn().delete("a/1").put("c/1", b"1").commit(confirm=True)
            assert not probe.changes

    @scenario(writes=True)
    async def test_g7_a_watch_that_is_closed_votes_no_more(self, store: Store) -> None:
        async with (
            store.open(ack_timeout=60) as sync,
            store.stream(sync, "stuck", "a/") as (watch, stuck),
        ):
            other = store.probe(sync, "other", "a/")
            await sync.ready(60)
            stuck.gate.clear()
            put = asyncio.ensure_future(sync.put("a/1", b"1", confirm=True))
            await eventually(lambda: stuck.changes and other.state == {"a/1": b"1"})
            assert not put.done()
            watch.close()
            await asyncio.wait_for(put, 60)
            stuck.gate.set()

    @scenario(writes=True)
    async def test_g7_unwatched(self, store: Store) -> None:
        sync = store.open()
        store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            error = await verdict_of(sync, "b/1", b"1")
            assert error.verdict is Verdict.UNWATCHED
            kept = await sync.get("b/1")
            assert kept is not None
            assert kept.raw == b"1"

    @scenario(writes=True)
    async def test_g7_refused(self, store: Store) -> None:
        sync = store.open()
        probe, willing = store.probe(sync, "probe", "a/"), store.probe(sync, "willing", "a/")
        async with sync:
            await sync.ready(60)
            probe.answers.append(Refused({"a/1": "not this one"}))
            error = await verdict_of(sync, "a/1", b"1")
            assert error.verdict is Verdict.REFUSED
            assert error.reasons == {"a/1": "not this one"}
            assert "not this one" in str(error)
            # the write itself stands
            assert willing.state == {"a/1": b"1"}
            kept = await sync.get("a/1")
            assert kept is not None
            if store.capabilities.revisions:
                assert error.revision == kept.revision
            await sync.put("a/1", b"2", confirm=True)
            assert probe.state == {"a/1": b"2"}

    @scenario(writes=True)
    async def test_g7_one_reason_refuses_all_keys_of_an_event(self, store: Store) -> None:
        sync = store.open()
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            probe.answers.append(Refused("not now"))
            error = await verdict_of(sync, "a/1", b"1")
            assert error.verdict is Verdict.REFUSED
            assert error.reasons == {"a/1": "not now"}
            await sync.put("a/2", b"2", confirm=True)
            assert probe.state == {"a/2": b"2"}

    @scenario(writes=True)
    async def test_g7_each_key_has_an_outcome_of_its_own(self, store: Store) -> None:
        sync = store.open()
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            for said, verdict in ((Pending("no eth0"), Verdict.PENDING), (Failed("busy"), FAILED)):
                probe.answers.append(Outcomes({"a/1": said}))
                error = await verdict_of(sync, "a/1", verdict.value.encode())
                assert error.verdict is verdict
                assert error.outcomes == {"a/1": KeyOutcome(verdict, said.reason)}
                assert error.reasons == {}
            if store.capabilities.atomic and store.capabilities.transactions:
                probe.answers.append(Outcomes({"a/2": Refused("too large"), "a/3": Pending("x")}))
                txn = sync.txn().put("a/2", b"1").put("a/3", b"1").put("a/4", b"1")
                with pytest.raises(NotApplied) as caught:
                    await txn.commit(confirm=True)
                assert caught.value.verdict is Verdict.REFUSED
                assert caught.value.reasons == {"a/2": "too large"}
                assert [*sorted(caught.value.outcomes)] == ["a/2", "a/3"]
                assert probe.state.keys() == {"a/1", "a/3", "a/4"}

    @scenario(writes=True)
    async def test_g7_what_changes_nothing_of_an_open_key_has_its_latest_outcome(
        self, store: Store
    ) -> None:
        sync = store.open()
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            watch = sync.watches["probe"]
            probe.answers.append(Outcomes({"a/1": Pending("no eth0")}))
            await verdict_of(sync, "a/1", b"1")
            watch.report({"a/1": Pending("no address")})
            error = await verdict_of(sync, "a/1", b"1")
            assert error.outcomes == {"a/1": KeyOutcome(Verdict.PENDING, "no address")}
            assert [*sync.status().watches[0].open] == ["a/1"]

            probe.answers.append(Outcomes({"a/1": Failed("busy")}))
            for _ in range(2):  # the second time there is nothing to delete
                with pytest.raises(NotApplied) as caught:
                    await sync.delete("a/1", confirm=True)
                assert caught.value.outcomes == {"a/1": KeyOutcome(FAILED, "busy")}
            assert [event.attempt for event in probe.changes] == [1, 1]

            watch.report({"a/1": Accepted()})
            assert not sync.status().watches[0].open
            await sync.delete("a/1", confirm=True)
            await sync.put("a/1", b"1", confirm=True)
            assert probe.state == {"a/1": b"1"}

    @scenario(writes=True)
    async def test_g7_a_second_delete_is_refused_as_the_first_one_was(self, store: Store) -> None:
        sync = store.open()
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            await sync.put("a/1", b"1", confirm=True)
            # some stores bring it once more, others have nothing to tell of it
            probe.answers += [Refused("in use"), Refused("in use")]
            for _ in range(2):
                with pytest.raises(NotApplied) as caught:
                    await sync.delete("a/1", confirm=True)
                assert caught.value.verdict is Verdict.REFUSED
                assert caught.value.reasons == {"a/1": "in use"}

    @scenario(writes=True)
    async def test_g7_failed_at_the_first_try(self, store: Store) -> None:
        sync = store.open()
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            probe.answers.append(ValueError("once"))
            error = await verdict_of(sync, "a/1", b"1")
            assert error.verdict is Verdict.FAILED
            await eventually(lambda: probe.state == {"a/1": b"1"})
            assert [event.attempt for event in probe.changes] == [1, 2]

    @scenario(writes=True)
    async def test_g7_overdue(self, store: Store) -> None:
        sync = store.open(ack_timeout=0.05)
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            probe.gate.clear()
            error = await verdict_of(sync, "a/1", b"1")
            assert error.verdict is Verdict.OVERDUE
            probe.gate.set()
            await eventually(lambda: probe.state == {"a/1": b"1"})
            await eventually(lambda: sync.status().watches[0].state == "following")
            await sync.put("a/1", b"2")
            await eventually(lambda: probe.seen == [("a/1", b"1"), ("a/1", b"2")])

    @scenario(writes=True)
    async def test_g7_confirm_in_seconds_is_a_limit(self, store: Store) -> None:
        sync = store.open(ack_timeout=60)
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            probe.gate.clear()
            error = await verdict_of(sync, "a/1", b"1", confirm=0.05)
            assert error.verdict is Verdict.OVERDUE
            probe.gate.set()
            await eventually(lambda: probe.state == {"a/1": b"1"})

    @scenario(writes=True)
    async def test_g7_the_worst_verdict_counts(self, store: Store) -> None:
        sync = store.open()
        first, second, third = (store.probe(sync, f"watch {i}", "a/") for i in range(3))
        async with sync:
            await sync.ready(60)
            second.answers.append(Refused({"a/1": "not this one"}))
            assert (await verdict_of(sync, "a/1", b"1")).verdict is Verdict.REFUSED
            first.answers.append(Refused({"a/1": "nor this"}))
            third.answers.append(ValueError("once"))
            error = await verdict_of(sync, "a/1", b"2")
            assert error.verdict is Verdict.FAILED
            assert error.reasons.get("a/1") == "nor this"

    @scenario(writes=True)
    async def test_g7_a_watch_registered_just_before_has_its_say(self, store: Store) -> None:
        async with store.open() as sync:
            store.probe(sync, "other", "a/")
            await sync.ready(60)
            for number in range(6):
                refuses = number % 2 == 0

                @sync.watcher("b/", name=f"watch {number}")
                async def handler(event: Any, refuses: bool = refuses) -> None:
                    if event.changes:
                        raise Refused({"b/1": "not this one"}) if refuses else ValueError("never")

                for _ in range(number // 2):
                    await asyncio.sleep(0)
                error = await verdict_of(sync, "b/1", b"%d" % number)
                assert error.verdict is (Verdict.REFUSED if refuses else Verdict.FAILED)
                sync.watches[f"watch {number}"].close()
                await sync.delete("b/1")

    @scenario(writes=True)
    async def test_g7_a_watch_widened_just_before_has_its_say(self, store: Store) -> None:
        async with store.open() as sync:

            @sync.watcher("a/", name="it")
            async def handler(event: Any) -> None:
                if any(change.key.startswith("b/") for change in event.changes):
                    raise ValueError("never")

            await sync.ready(60)
            sync.watches["it"].add_prefix("b/")
            assert (await verdict_of(sync, "b/1", b"1")).verdict is Verdict.FAILED

    @scenario(writes=True)
    async def test_g7_a_transaction_has_one_verdict(self, store: Store) -> None:
        sync = store.open()
        left, right = store.probe(sync, "left", "a/"), store.probe(sync, "right", "b/")
        async with sync:
            await sync.ready(60)
            right.answers.append(Refused({"b/1": "not this one"}))
            txn = sync.txn().put("a/1", b"1").put("b/1", b"1").put("c/1", b"1")
            if not store.capabilities.transactions:
                with pytest.raises(UnsupportedOption):
                    await txn.commit(confirm=True)
                return
            with pytest.raises(NotApplied) as caught:
                await txn.commit(confirm=True)
            assert caught.value.verdict is Verdict.REFUSED
            assert caught.value.reasons == {"b/1": "not this one"}
            assert left.state == {"a/1": b"1"}
            await sync.txn().put("a/1", b"2").put("b/1", b"2").commit(confirm=True)
            assert (left.state, right.state) == ({"a/1": b"2"}, {"b/1": b"2"})

    @scenario(writes=True)
    async def test_g7_a_value_that_does_not_decode_is_refused(self, store: Store) -> None:
        sync = store.open()

        @sync.watcher("a/", type=Item)
        async def handler(event: Any) -> None:
            for change in event.changes:
                assert change.value.number == 1

        async with sync:
            await sync.ready(60)
            await sync.put("a/1", msgspec.json.encode(Item(1)), confirm=True)
            error = await verdict_of(sync, "a/2", b"{nonsense")
            assert error.verdict is Verdict.REFUSED
            assert set(error.reasons) == {"a/2"}

    @scenario(writes=True)
    async def test_g7_writes_folded_behind_a_slow_handler_are_all_accepted(
        self, store: Store
    ) -> None:
        sync = store.open(ack_timeout=60, backlog=4)
        probe, quick = store.probe(sync, "probe", "a/"), store.probe(sync, "quick", "a/")
        async with sync:
            await sync.ready(60)
            probe.gate.clear()
            puts = [
                asyncio.ensure_future(sync.put(f"a/{i % 3}", b"%d" % i, confirm=True))
                for i in range(50)
            ]
            await eventually(lambda: probe.changes)
            if store.capabilities.every_value:
                # all are behind the slow one before it goes on
                await eventually(lambda: quick.commits == len(puts))
            probe.gate.set()
            await asyncio.gather(*puts)
            assert set(probe.state) == {"a/0", "a/1", "a/2"}
            if store.capabilities.every_value:
                assert len(probe.changes) < 50

    @scenario(writes=True)
    async def test_g7_thousands_of_verdicts_in_flight(self, store: Store) -> None:
        sync = store.open(ack_timeout=60, backlog=100)
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            await sync.get("a/none")  # by now there is a connection for requests, which they share

            probe.gate.clear()
            puts: list[asyncio.Future[int | None]] = []
            for number in range(IN_FLIGHT):
                puts.append(
                    asyncio.ensure_future(sync.put(f"a/{number:05}", b"%d" % number, confirm=True))
                )
                if not number % 500:
                    await asyncio.sleep(0)  # answers are read meanwhile

            await eventually(lambda: probe.changes)
            early = [put.exception() or put.result() for put in puts if put.done()]
            assert not early

            probe.answers.append(ValueError("the first event fails"))
            probe.gate.set()
            results = await asyncio.gather(*puts, return_exceptions=True)
            failed = [result for result in results if isinstance(result, BaseException)]
            others = [error for error in failed if not isinstance(error, NotApplied)]
            assert not others

            assert all(
                isinstance(error, NotApplied) and error.verdict is Verdict.FAILED
                for error in failed
            )

            await eventually(lambda: len(probe.state) == IN_FLIGHT)
            assert len(failed) == len(probe.changes[0].changes)

    @scenario(writes=True)
    async def test_g7_a_publisher_that_gives_up_does_not_disturb_the_handler(
        self, store: Store
    ) -> None:
        sync = store.open(ack_timeout=60)
        probe = store.probe(sync, "probe", "a/")
        async with sync:
            await sync.ready(60)
            probe.gate.clear()
            put = asyncio.ensure_future(sync.put("a/1", b"1", confirm=True))
            await eventually(lambda: probe.changes)
            put.cancel()
            with pytest.raises(asyncio.CancelledError):
                await put
            assert probe.running
            probe.gate.set()
            await eventually(lambda: probe.state == {"a/1": b"1"})
            assert len(probe.changes) == 1

    @scenario(writes=True)
    async def test_g7_the_verdict_of_the_watches_behind_the_source(self, store: Store) -> None:
        sync = store.open()
        probe = store.probe(sync, "probe", "a/")
        async with sync, store.open() as publisher:
            await sync.ready(60)
            if not store.capabilities.reply:
                # only the publisher's own watches could answer, and it has none
                with pytest.raises(UnsupportedOption, match="carries no verdicts"):
                    await publisher.put("a/1", b"1", confirm=True)
                assert await publisher.get("a/1") is None
                await publisher.put("a/1", b"1")
                await eventually(lambda: probe.state == {"a/1": b"1"})
                return
            await publisher.put("a/1", b"1", confirm=True)
            assert probe.state == {"a/1": b"1"}
            probe.answers.append(Refused({"a/1": "not this one"}))
            error = await verdict_of(publisher, "a/1", b"2")
            assert error.verdict is Verdict.REFUSED
            assert error.reasons == {"a/1": "not this one"}

    @scenario("lose_verdicts", writes=True)
    async def test_g10_a_verdict_that_cannot_come_is_not_waited_for(self, store: Store) -> None:
        assert store.lose_verdicts is not None
        async with (
            store.open(ack_timeout=60) as sync,
            store.stream(sync, "stuck", "a/") as (_, stuck),
        ):
            await eventually(lambda: stuck.resynced)
            stuck.gate.clear()
            put = asyncio.ensure_future(sync.put("a/1", b"1", confirm=True))
            await eventually(lambda: stuck.changes)
            await store.lose_verdicts()
            with pytest.raises(OutcomeUnknown):
                await asyncio.wait_for(put, 60)
            stuck.gate.set()
            await stuck.reaches({"a/1": b"1"})
