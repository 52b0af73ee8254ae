"""The steps of the story in which another process writes, dies, or the store goes away."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from datasync import ChangeEvent, DataSyncError, ResyncEvent
from datasync.demo.network import ROUTES, interface_key
from datasync.demo.network_pb2 import Interface, Route
from datasync.demo.stage import PATIENCE, Stage, State, stored, until, url_of
from datasync.demo.writer import BULK, MANY, gateway
from datasync.terminal.output import many

__all__ = ["killed", "moved_away", "replaced", "second_process"]

_KILLS = (0.2, 0.5, 0.8)
"""When to kill, as fractions of the time that a transaction takes."""
_TRIES = 6
_BULK_ROUTES = f"{ROUTES}{BULK}/"


async def second_process(stage: Stage) -> None:
    """Another process changes what step 2 has written."""
    stage.screen.head("5. A second process writes the same file")
    mark = len(stage.applied)
    revision, number = await _change(stage.url, stage.interface.name)
    stage.screen.say(f"process {number} committed revision {revision}")
    arrived = await stage.arrival(revision, mark)
    stage.show(mark)
    stage.screen.check(
        "its transaction arrived as changes: one event for each part",
        arrived and [(one.part, type(one.event)) for one in stage.applied[mark:]]
        == [("interfaces", ChangeEvent), ("routes", ChangeEvent)],
    )  # fmt: skip
    changes = [
        change
        for one in stage.applied[mark:]
        for change in one.event.changes
        if change.prev is not None
    ]
    stage.screen.check(
        "the previous value is the one of step 2",
        [change.prev and change.prev.value for change in changes] == [stage.interface],
    )


async def killed(stage: Stage) -> None:
    """A process that moves many routes at a time is killed while it does."""
    stage.screen.head(
        f"6. That process is killed with -9 in mid-transaction ({MANY:,} routes at a time)"
    )

    mark = len(stage.applied)
    hits, whole, tries = 0, True, 0
    while hits < len(_KILLS) and tries < _TRIES:
        tries += 1
        number, hit = await _kill_one(stage.url, _KILLS[hits])
        held = _bulk(await stored(stage.url))
        hits += hit
        whole = whole and _transaction(held) is not None
        when = "in" if hit else "just after"
        stage.screen.say(
            f"killed {when} transaction {number}: the store holds transaction {_transaction(held)}"
        )

    stage.screen.check(
        f"it was killed {len(_KILLS)} times between begin and commit", hits == len(_KILLS)
    )
    stage.screen.check("each time the store held all of one transaction, never half of one", whole)

    last = await stage.agent.sync.get(interface_key(BULK))
    assert last is not None  # one of the transactions was committed
    # the values come round again after a few transactions, the revisions do not
    followed = await until(
        lambda: stage.caught_up(last.revision) and _bulk(stage.agent.state()) == held
    )

    events = [one.event for one in stage.applied[mark:] if one.part == "routes"]
    stage.screen.say(
        f"meanwhile the agent was given {sum(len(event.changes) for event in events):,} changes "
        "of routes"
    )
    stage.screen.check(
        f"each event that the agent was given held all {MANY:,} routes, moved to one gateway",
        bool(events)
        and all(_is_whole(event) for event in events if isinstance(event, ChangeEvent)),
    )
    stage.screen.check("the agent ended with what the store holds", followed)


async def moved_away(stage: Stage) -> None:
    """The directory of the store goes away, is changed elsewhere, and comes back."""
    stage.screen.head(
        "7. The source is lost and comes back: its directory is moved away, and changed there"
    )

    before, mark, elsewhere = stage.agent.state(), len(stage.applied), stage.directory / "elsewhere"
    reconnects = stage.source.reconnects

    stage.home.rename(elsewhere)
    lost = await until(lambda: stage.source.state == "lost")
    stage.screen.say(f"status(): {stage.source.state}: {stage.source.error}")
    stage.screen.check(
        "status() says that the source is lost, and why", lost and bool(stage.source.error)
    )

    refused = False
    try:
        await stage.agent.sync.delete(interface_key(BULK))
    except DataSyncError as error:
        refused = True
        stage.screen.say(f"a write: {type(error).__name__}: {error}")
    stage.screen.check("a write fails at once, with an error that says so", refused)

    revision, _ = await _change(url_of(elsewhere), stage.interface.name)
    stage.screen.check(
        "the agent kept its state, and was given nothing",
        stage.agent.state() == before and len(stage.applied) == mark,
    )

    elsewhere.rename(stage.home)
    arrived = await stage.arrival(revision, mark)
    stage.show(mark)
    stage.screen.check(
        "it went on from where it was, for nothing was missed: what was changed elsewhere "
        "arrived, once",
        arrived and [(type(one.event), one.event.revision) for one in stage.applied[mark:]]
        == [(ChangeEvent, revision)] * 2,
    )  # fmt: skip

    stage.screen.say(
        f"status(): {stage.source.state}, {many(stage.source.reconnects, 'reconnect')}"
    )
    stage.screen.check(
        "status() says that it follows again",
        (stage.source.state, stage.source.error, stage.source.reconnects)
        == ("following", None, reconnects + 1),
    )


async def replaced(stage: Stage) -> None:
    """The store is lost for good, and an old backup takes its place."""
    stage.screen.head(
        "8. The source is lost for good: the backup made after step 3 takes its place"
    )

    mark, before = len(stage.applied), stage.agent.state()
    stage.home.rename(stage.directory / "broken")
    lost = await until(lambda: stage.source.state == "lost")
    kept = stage.agent.state() == before and len(stage.applied) == mark
    stage.screen.check("lost again: the agent kept its state", lost and kept)

    (stage.directory / "backup").rename(stage.home)
    await until(lambda: len(stage.applied) >= mark + 2)
    stage.show(mark)

    events = [one.event for one in stage.applied[mark:]]
    stage.screen.check(
        "a RESYNC of each part, in order, which says that this is another history",
        [one.part for one in stage.applied[mark:]] == ["interfaces", "routes"]
        and all(
            isinstance(event, ResyncEvent) and event.reason.startswith("new history")
            for event in events
        ),
    )

    told = {change.key for event in events for change in event.changes}
    differ = {
        key for key in before.keys() | stage.saved.keys() if before.get(key) != stage.saved.get(key)
    }
    stage.screen.say(
        f"{len(told):,} keys differed and were changed back, all others were left alone"
    )
    stage.screen.check(
        "the agent changed what differs and nothing else, and has the state of the backup",
        stage.agent.state() == stage.saved and told == differ,
    )


@asynccontextmanager
async def _writer(*words: str) -> AsyncIterator[Process]:
    """The second process; it does not outlive the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "datasync.demo.writer", *words),
        stdin=DEVNULL,
        stdout=PIPE,
        start_new_session=True,  # a Ctrl-C is for the demo, which then ends this process
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _line(process: Process) -> tuple[str, int]:
    """The next step that the process tells of: a word and a number."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        line = await process.stdout.readline()
    if not line:
        raise DataSyncError(
            "the second process ended without saying what it did; see above for its error"
        )
    word, number = line.split()
    return word.decode(), int(number)


async def _change(url: str, interface: str) -> tuple[int, int]:
    """Let another process do one transaction; its revision, and the number of the process."""
    async with _writer("change", url, interface) as process:
        _, revision = await _line(process)
        async with asyncio.timeout(PATIENCE):
            await process.wait()
        return revision, process.pid


async def _kill_one(url: str, fraction: float) -> tuple[int, bool]:
    """Kill another process that does nothing but commit; the number of its last transaction, and
    whether that was under way: begun, but not reported as done."""
    clock = asyncio.get_running_loop().time
    async with _writer("forever", url) as process:
        assert process.stdout is not None
        await _line(process)
        began = clock()
        await _line(process)
        took = clock() - began
        await asyncio.sleep(fraction * took)  # no wait for anything: this is the moment to hit
        process.kill()
        rest = await process.stdout.read()
        await process.wait()
        word, number = rest.split()[-2:] or (b"done", b"1")
        return int(number), word == b"begin" and process.returncode == -signal.SIGKILL


def _bulk(state: State) -> State:
    """The part of a state that the large transactions write."""
    return {
        k: value
        for k, value in state.items()
        if k.startswith(_BULK_ROUTES) or k == interface_key(BULK)
    }


def _transaction(bulk: State) -> int | None:
    """The number of the transaction that this is all of; None for anything else."""
    interface = bulk.get(interface_key(BULK))
    if not isinstance(interface, Interface) or len(bulk) != MANY + 1:
        return None
    number = interface.mtu - 1000
    gateways = {value.gateway for value in bulk.values() if isinstance(value, Route)}
    return number if gateways == {gateway(number)} else None


def _is_whole(event: ChangeEvent[Interface] | ChangeEvent[Route]) -> bool:
    """Whether it moves all the routes, all to one gateway."""
    gateways = {change.value.gateway for change in event.changes if isinstance(change.value, Route)}
    return len(event.changes) == MANY and len(gateways) == 1
