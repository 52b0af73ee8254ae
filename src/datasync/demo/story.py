"""What the demo shows, step by step, and what has to hold in each step."""

from __future__ import annotations

from pathlib import Path

from datasync import ChangeEvent, NotApplied, ResyncEvent, Verdict
from datasync.demo.faults import killed, moved_away, replaced, second_process
from datasync.demo.network import interface_key, of_kernel, recorded, route_key
from datasync.demo.network_pb2 import Interface, Route
from datasync.demo.reconciled import reconciled
from datasync.demo.screen import Screen
from datasync.demo.stage import PATIENCE, Stage, save, stored, url_of
from datasync.terminal.output import many

__all__ = ["tell"]


async def tell(directory: Path, screen: Screen) -> None:
    """Play the whole of it, with a store in `directory`."""
    stage = Stage(directory, screen)
    await feed(stage)
    async with stage.agent.sync:
        await resync(stage)
        await change(stage)
        await transaction(stage)
        await backup(stage)
        await refusal(stage)
        await second_process(stage)
        await killed(stage)
        await moved_away(stage)
        await replaced(stage)
        await reconciled(stage)
    await proof(stage)


async def feed(stage: Stage) -> None:
    """The network of this machine goes into the store, before there is an agent."""
    screen = stage.screen
    screen.head("The input: the network of this machine as its kernel describes it")
    network = of_kernel()
    found = f"{many(len(network.interfaces), 'interface')}, {many(len(network.routes), 'route')}"
    screen.say(f"/proc/net and /sys/class/net tell of {found}")
    if network.is_small:
        network.add(recorded())
        screen.say("too little to be interesting: a recorded configuration is used in addition")
    leaving = next(route for route in network.routes.values() if route.interface != "lo")
    stage.interface = network.interfaces[interface_key(leaving.interface)]
    stage.home.mkdir()
    stage.saved = {**network.interfaces, **network.routes}
    screen.say(
        f"stored as revision {await save(stage.url, stage.saved)} of {stage.home}/network.db"
    )


async def resync(stage: Stage) -> None:
    """The agent starts."""
    stage.screen.head("1. The agent starts: each part gets a RESYNC, in the order of registration")
    await stage.agent.sync.ready(timeout=PATIENCE)
    stage.show()
    stage.screen.check(
        "interfaces first, then the routes that refer to them; each once, and before any change",
        [(one.part, type(one.event)) for one in stage.applied]
        == [("interfaces", ResyncEvent), ("routes", ResyncEvent)],
    )
    stage.screen.check(
        "what the agent applied is what was stored", stage.agent.state() == stage.saved
    )


async def change(stage: Stage) -> None:
    """One value changes."""
    before, after = stage.interface, Interface()
    stage.screen.head(
        f"2. A change: the MTU of {before.name} (in the store; this machine is left alone)"
    )
    after.CopyFrom(before)
    after.mtu = 9000 if before.mtu != 9000 else 1500
    mark = len(stage.applied)
    # with confirm=True the write returns when the parts of this agent have accepted it
    await stage.agent.sync.put(interface_key(after.name), after, confirm=True)
    stage.interface = after
    stage.show(mark)
    changes = [change for one in stage.applied[mark:] for change in one.event.changes]
    stage.screen.check(
        "the part was given the previous value and the new one",
        [(change.prev and change.prev.value, change.value) for change in changes]
        == [(before, after)],
    )


async def transaction(stage: Stage) -> None:
    """One transaction over both parts."""
    stage.screen.head(
        "3. A transaction over both parts: two routes, and the new interface that they leave by"
    )

    interface = Interface(name="lab0", state=Interface.UP, mtu=1500, addresses=["10.77.0.1/24"])
    near = Route(destination="10.77.0.0/24", interface="lab0")
    far = Route(destination="10.78.0.0/16", interface="lab0", gateway="10.77.0.2")

    mark = len(stage.applied)
    txn = stage.agent.sync.txn().put(route_key(near), near).put(route_key(far), far)
    revision = await txn.put(interface_key("lab0"), interface).commit(confirm=True)

    stage.show(mark)
    stage.screen.check(
        "it arrived whole: each part got its share as one event, at the revision of the "
        "transaction",
        [
            (type(one.event), one.event.revision, len(one.event.changes))
            for one in stage.applied[mark:]
        ]
        == [(ChangeEvent, revision, 1), (ChangeEvent, revision, 2)],
    )
    stage.screen.check(
        "and in order, though the routes were written first",
        [one.part for one in stage.applied[mark:]] == ["interfaces", "routes"],
    )


async def backup(stage: Stage) -> None:
    """Somebody copies the store, for step 8."""
    stage.saved = await stored(stage.url)
    place = stage.directory / "backup"
    place.mkdir()
    await save(url_of(place), stage.saved)


async def refusal(stage: Stage) -> None:
    """A route that the agent refuses."""
    stage.screen.head(
        "4. A route that is refused: of two, one leaves by an interface that does not exist"
    )

    good = Route(destination="10.79.0.0/16", interface="lab0", gateway="10.77.0.2")
    bad = Route(destination="10.80.0.0/16", interface="ghost0")

    mark = len(stage.applied)
    answer = None
    try:
        await (
            stage.agent.sync.txn()
            .put(route_key(good), good)
            .put(route_key(bad), bad)
            .commit(confirm=True)
        )
    except NotApplied as error:
        answer = error

    stage.show(mark)
    stage.screen.say(f"the publisher: {type(answer).__name__}: {answer}")
    stage.screen.check(
        "the publisher was told which key was refused, and why",
        answer is not None
        and answer.verdict is Verdict.REFUSED
        and answer.reasons == {route_key(bad): "there is no interface ghost0"},
    )
    stage.screen.check(
        "the other route was applied, the refused one was not",
        stage.agent.routes.get(route_key(good)) == good
        and route_key(bad) not in stage.agent.routes,
    )

    failing = [watch.name for watch in stage.agent.sync.status().watches if watch.failing]
    await stage.agent.sync.delete(route_key(bad), confirm=True)
    stage.screen.check(
        "status() showed the part that refused, and shows none since the publisher took the "
        "route back",
        failing == ["routes"]
        and not any(watch.failing for watch in stage.agent.sync.status().watches),
    )


async def proof(stage: Stage) -> None:
    """The agent has ended."""
    stage.screen.head("10. The proof: the agent has ended, and the file is opened again")
    applied, held = stage.agent.state(), await stored(stage.url)
    differ = sorted(
        key for key in applied.keys() | held.keys() if applied.get(key) != held.get(key)
    )
    stage.screen.say(
        f"{many(len(held), 'key')} in the store, {len(applied)} applied, {len(differ)} differ"
    )
    for key in differ[:8]:
        stage.screen.say(f"    {key}: stored {held.get(key)!r}, applied {applied.get(key)!r}")
    stage.screen.check(
        "what the agent applied equals what the store holds, key by key", bool(held) and not differ
    )
