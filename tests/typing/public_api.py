"""What the type checker makes of the public API. Checked by mypy (`make lint`), never run.

A `type: ignore` marks what must be an error: mypy complains about one that is not needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import assert_type

import msgspec
import pydantic

import datasync
from datasync import blocking


class Interface(msgspec.Struct):
    name: str


@dataclasses.dataclass
class Route:
    destination: str


class Acl(pydantic.BaseModel):
    rule: str


sync = datasync.DataSync("memory://", label="vpp1")


async def streams() -> None:
    watch = sync.watch("interfaces", "config/interface/", type=Interface)
    assert_type(watch, datasync.Watch[Interface])
    assert_type(watch.name, str)
    assert_type(watch.state, datasync.WatchState)
    async for event in watch:
        assert_type(event, datasync.ResyncEvent[Interface] | datasync.ChangeEvent[Interface])
        assert_type(event.changes, Sequence[datasync.Change[Interface]])
        assert_type(event.changes[0].op, datasync.Op)
        assert_type(event.changes[0].value, Interface | None)
        assert_type(event.changes[0].prev, datasync.KeyVal[Interface] | None)
        print(event.changes[0].value.name)  # type: ignore[union-attr]  # a delete has no value
        assert_type(event.undecodable, Mapping[str, datasync.DecodeError])
        match event:
            case datasync.ResyncEvent():
                for prefix, values in event.values.items():
                    assert_type(prefix, str)
                    for kv in values:
                        assert_type(kv, datasync.KeyVal[Interface])
                        assert_type(kv.value, Interface)
                        assert_type(kv.raw, bytes)
                        assert_type(kv.revision, int)
            case datasync.ChangeEvent():
                assert_type(event.commits, int)


def types_of_values() -> None:
    assert_type(sync.watch("raw", "config/"), datasync.Watch[bytes])
    assert_type(sync.watch("routes", "config/route/", type=Route), datasync.Watch[Route])
    assert_type(sync.watch("acls", keys=["config/acl"], type=Acl), datasync.Watch[Acl])
    both: Mapping[str, type[Interface | Route]] = {"interface/": Interface, "route/": Route}
    assert_type(sync.watch("net", types=both), datasync.Watch[Interface | Route])
    assert_type(sync.watch("net", "route/", types={"route/": Route}), datasync.Watch[Route])
    assert_type(sync.view("", types=both), datasync.View[Interface | Route])
    sync.watch("acls", keys=["config/acl"]).add_prefix("config/acl/", type=Acl)
    sync.watch("wrong", type=Route, types=both)  # type: ignore[call-overload]
    sync.watch("wrong", types={"route/": "Route"})  # type: ignore[arg-type]
    sync.watch("wrong", "config/", type="Interface")  # type: ignore[call-overload]
    sync.watch("wrong", "config/", ttl=3)  # type: ignore[call-overload]


@sync.watcher("config/interface/", type=Interface)
async def interfaces(
    event: datasync.ResyncEvent[Interface] | datasync.ChangeEvent[Interface],
) -> None:
    raise datasync.Refused({change.key: "no such link" for change in event.changes})


def outcomes_of_keys() -> None:
    said = {"a": datasync.Pending("no eth0"), "b": datasync.Failed("busy")}
    more = {"a": datasync.Pending("no eth0"), "b": datasync.Refused("no")}
    sync.watches["network"].report({"a": datasync.Accepted(), "b": datasync.Failed()})
    sync.watches["network"].report(said)
    datasync.Outcomes({"a": datasync.Accepted})  # type: ignore[dict-item]
    datasync.Outcomes(said)
    raise datasync.Outcomes(more)


@sync.watcher("config/route/", type=Route, after=["interfaces"])
def routes(event: datasync.ResyncEvent[Route] | datasync.ChangeEvent[Route]) -> None:
    raise datasync.Retry(after=1.5)


@sync.watcher(types={"config/interface/": Interface, "config/route/": Route})
async def network(event: datasync.Event[Interface | Route]) -> None: ...


@sync.watcher("config/acl/", type=Acl)  # type: ignore[arg-type]
async def wrong_type(event: datasync.ResyncEvent[Route] | datasync.ChangeEvent[Route]) -> None: ...


async def writes_and_reads() -> None:
    assert_type(await sync.put("config/a", b"1", ttl=3, confirm=True), int | None)
    assert_type(await sync.delete("config/", prefix=True), bool)
    assert_type(
        await sync.txn().put("a", b"1").delete("b").if_revision("a", 0).commit(confirm=2.5),
        int | None,
    )
    assert_type(await sync.get("config/a"), datasync.KeyVal[bytes] | None)
    assert_type(await sync.get("config/a", type=Interface), datasync.KeyVal[Interface] | None)
    assert_type(sync.list("config/", type=Interface), AsyncIterator[datasync.KeyVal[Interface]])
    view = sync.view("config/interface/", type=Interface)
    assert_type(view["config/interface/eth0"], Interface)
    as_mapping: Mapping[str, Interface] = view
    view["config/interface/eth0"] = as_mapping["config/interface/eth1"]  # type: ignore[index]
    assert_type(sync.status().watches[0].name, str)
    assert_type(sync.of_agent("vpp2"), datasync.DataSync)
    await sync.put("config/a", b"1", ttl="soon")  # type: ignore[arg-type]


plain = blocking.DataSync("memory://", label="vpp1", write_to="memory://")
blocking.DataSync("memory://", labels="vpp1")  # type: ignore[call-arg]


def blocking_streams() -> None:
    watch = plain.watch("interfaces", "config/interface/", type=Interface)
    assert_type(watch, blocking.Watch[Interface])
    assert_type((watch.name, watch.state), tuple[str, blocking.WatchState])
    assert_type(plain.watch("raw", "config/", retries=3), blocking.Watch[bytes])
    for event in watch:
        assert_type(event, datasync.ResyncEvent[Interface] | datasync.ChangeEvent[Interface])
    watch.add_prefix("config/more/")
    watch.add_prefix(1)  # type: ignore[arg-type]
    assert_type(plain.watch("r", types={"route/": Route}), blocking.Watch[Route])
    plain.watch("wrong", "config/", ttl=3)  # type: ignore[call-overload]


@plain.watcher("config/route/", type=Route, after=["interfaces"])
def blocking_routes(event: blocking.Event[Route]) -> None:
    raise blocking.Retry(after=1.5)


@plain.watcher("config/acl/", type=Acl)  # type: ignore[arg-type]
def blocking_wrong_type(event: blocking.Event[Route]) -> None: ...


@plain.watcher("config/route/", type=Route)  # type: ignore[arg-type]
async def blocking_async(event: blocking.Event[Route]) -> None: ...


def blocking_writes_and_reads() -> None:
    with plain as entered:
        assert_type(entered, blocking.DataSync)
    assert_type(plain.put("config/a", b"1", ttl=3, confirm=True), int | None)
    assert_type(plain.delete("config/", prefix=True), bool)
    txn = plain.txn().put("a", b"1").delete("b").if_revision("a", 0)
    assert_type(txn, blocking.Txn)
    assert_type(txn.commit(confirm=2.5), int | None)
    assert_type(plain.get("config/a"), datasync.KeyVal[bytes] | None)
    assert_type(plain.get("config/a", type=Interface), datasync.KeyVal[Interface] | None)
    assert_type(plain.list("config/", type=Interface), Iterator[datasync.KeyVal[Interface]])
    view = plain.view("config/interface/", type=Interface)
    assert_type(view["config/interface/eth0"], Interface)
    assert_type(dict(view.items()), dict[str, Interface])
    assert_type(view.raw("config/interface/eth0"), bytes)
    as_mapping: Mapping[str, Interface] = view
    view["config/interface/eth0"] = as_mapping["config/interface/eth1"]  # type: ignore[index]
    view.at_least(1, timeout=2.0)
    assert_type(plain.status().watches[0].name, str)
    assert_type(plain.of_agent("vpp2"), blocking.DataSync)
    plain.ready(timeout=10)
    plain.put("config/a", b"1", ttl="soon")  # type: ignore[arg-type]
