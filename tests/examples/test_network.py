"""The network agent on a real kernel, in a namespace of its own, with hands on `ip`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyroute2")

from pyroute2 import AsyncIPRoute

import network
from datasync import DataSync, NotApplied, Verdict
from datasync.reconcile import Reconciler, State
from datasync.testing.contract import eventually
from datasync.testing.reconcile import Harness
from network import ADDRESSES, INTERFACES, ROUTES, Interface, Route
from tests.helpers.reconcile.namespace import in_namespace, ip, links
from tests.helpers.servers import child

pytestmark = pytest.mark.once

BRIDGE = Interface(type="bridge", addresses=("10.77.0.1/24",))
FAR = f"{ROUTES}10.78.0.0/16"
OBJECTS: dict[str, Interface | Route] = {
    FAR: Route("br0", "10.77.0.2"),
    f"{INTERFACES}port": Interface(type="veth", peer="end", bridge="br0"),
    f"{INTERFACES}end": Interface(type="peer", over="port", mtu=1400, addresses=("10.79.0.1/24",)),
    f"{INTERFACES}mac": Interface(type="macvlan", over="end", mtu=1400),
    f"{INTERFACES}net": Interface(type="vxlan", vni=5, mtu=1400),
    f"{INTERFACES}tap": Interface(type="tap", up=False),
    f"{INTERFACES}br0": BRIDGE,
}


class Agent:
    def __init__(self, sync: DataSync, rec: Reconciler) -> None:
        self.sync, self.rec = sync, rec

    async def put(self, key: str, value: object) -> None:
        await self.sync.put(key, value, confirm=60)

    async def refused(self, key: str, value: object) -> str:
        """In whose words the publisher hears that it is not applied."""
        with pytest.raises(NotApplied) as info:
            await self.put(key, value)
        assert info.value.verdict is Verdict.REFUSED
        return info.value.outcomes[key].reason


@contextlib.asynccontextmanager
async def agent() -> AsyncIterator[Agent]:
    async with (
        AsyncIPRoute(ext_ack=True) as netlink,
        DataSync("memory://") as sync,
        network.reconciler(sync, network.Kernel(netlink)) as rec,
    ):
        await sync.ready(60)
        repair = asyncio.create_task(network.repair(rec))
        yield Agent(sync, rec)
        repair.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await repair


def routes() -> list[str]:
    """Those that the agent has made: destination, gateway and interface."""
    listed = json.loads(ip(f"-j route show proto {network.PROTOCOL}"))
    return sorted(" ".join((one["dst"], one.get("gateway", "-"), one["dev"])) for one in listed)


def has(name: str, **expected: object) -> bool:
    link = links().get(name)
    return link is not None and all(link.get(field) == it for field, it in expected.items())


def addresses(name: str) -> list[str]:
    return [
        f"{one['local']}/{one['prefixlen']}"
        for one in links()[name]["addr_info"] if one["scope"] == "global"
    ]  # fmt: skip


@contextlib.contextmanager
def program(output: Path, *command: str) -> Iterator[None]:
    """It runs within the block, and is killed."""
    with output.open("w") as stdout, child(command, stdout=stdout):
        yield


def stir() -> str:
    """Something to hear of that concerns nobody."""
    return ip(f"link set lo alias {time.monotonic()}")


async def by_hand(line: str, until: Callable[[], bool]) -> None:
    """Somebody changes it, and the agent puts it right."""
    ip(line)
    await eventually(until)


def test_all_kinds_of_interfaces_their_addresses_and_routes_come_and_go() -> None:
    async def main() -> None:
        async with agent() as it:
            txn = it.sync.txn()
            for key, value in OBJECTS.items():
                txn.put(key, value)
            await txn.commit(confirm=60)

            assert has("port", master="br0", link="end", ifalias="datasync")
            assert has("end", link="port", mtu=1400)
            assert has("mac", link="end")
            kinds = {
                name: link.get("linkinfo", {}).get("info_kind") for name, link in links().items()
            }
            assert kinds == {
                "lo": None, "br0": "bridge", "port": "veth", "end": "veth", "mac": "macvlan",
                "net": "vxlan", "tap": "tun",
            }  # fmt: skip
            assert "UP" not in links()["tap"]["flags"]
            assert addresses("br0") == ["10.77.0.1/24"]
            # nobody waits for it: it is no key of the transaction, and nothing needs it
            await eventually(lambda: addresses("end") == ["10.79.0.1/24"])
            assert routes() == ["10.78.0.0/16 10.77.0.2 br0"]

            txn = it.sync.txn()
            for key in OBJECTS:
                txn.delete(key)
            await txn.commit(confirm=60)
            assert list(links()) == ["lo"]

    in_namespace(main)


def test_a_route_waits_for_its_interface_and_for_an_address_that_its_gateway_is_near() -> None:
    async def main() -> None:
        async with agent() as it:
            with pytest.raises(NotApplied) as info:
                await it.put(FAR, Route("br0", "10.77.0.2"))
            assert info.value.verdict is Verdict.PENDING
            assert f"{INTERFACES}br0 that satisfies is_up" in info.value.outcomes[FAR].reason

            await it.put(f"{INTERFACES}br0", Interface(type="bridge"))
            assert it.rec.reason(FAR).startswith(f"waits for any under {ADDRESSES}br0/")
            await it.put(f"{INTERFACES}br0", BRIDGE)
            await it.rec.wait(FAR, State.APPLIED, 60)
            assert routes() == ["10.78.0.0/16 10.77.0.2 br0"]

            with pytest.raises(NotApplied):  # the route hears of it, too
                await (
                    it.sync.txn()
                    .put(f"{INTERFACES}br0", Interface(type="bridge", up=False))
                    .put(FAR, Route("br0", "10.77.0.3"))
                    .commit(confirm=60)
                )
            assert it.rec.state(FAR) is State.PENDING
            assert routes() == []

    in_namespace(main)


def test_what_is_changed_by_hand_is_repaired() -> None:
    async def main() -> None:
        async with agent() as it:
            txn = it.sync.txn()
            for key, value in OBJECTS.items():
                txn.put(key, value)
            await txn.commit(confirm=60)
            number = links()["br0"]["ifindex"]

            await by_hand("link set end mtu 1300", lambda: has("end", mtu=1400))
            await by_hand("link set port nomaster", lambda: has("port", master="br0"))
            await by_hand("address del 10.77.0.1/24 dev br0", lambda: addresses("br0") != [])
            await by_hand("address add 10.1.1.1/24 dev br0", lambda: len(addresses("br0")) == 1)
            await by_hand("route del 10.78.0.0/16", lambda: routes() != [])
            await by_hand("link set br0 down", lambda: routes() != [])
            await by_hand("link del tap", lambda: "tap" in links())
            assert links()["br0"]["ifindex"] == number

            # with the veth go its other end, and the macvlan on that
            await by_hand(
                "link del port", lambda: has("mac", link="end") and has("port", master="br0")
            )
            await it.rec.wait(f"{INTERFACES}mac", State.APPLIED, 60)
            await eventually(lambda: addresses("end") == ["10.79.0.1/24"])

            # what others have made is left alone
            await by_hand("link add other type bridge", lambda: "other" in links())
            await it.rec.refresh()
            assert it.rec.state(f"{INTERFACES}other") is State.UNMANAGED
            assert "other" in links()

    in_namespace(main)


def test_what_the_kernel_refuses_is_told_in_its_own_words() -> None:
    async def main() -> None:
        async with agent() as it:
            key = f"{INTERFACES}port"
            veth = Interface(type="veth", peer="end")
            too_much = Interface(type="veth", peer="end", mtu=100_000)
            assert await it.refused(key, too_much) == "mtu greater than device maximum"
            assert list(links()) == ["lo"]

            await it.put(key, veth)
            assert await it.refused(key, too_much) == "mtu greater than device maximum"
            assert it.rec.state(key) is State.INVALID
            assert has("port", mtu=1500)
            assert "known are bridge" in await it.refused(f"{INTERFACES}x", Interface(type="x"))
            assert await it.refused(f"{INTERFACES}a-name-that-is-long", BRIDGE)

    in_namespace(main)


def test_an_agent_that_was_killed_touches_nothing_that_is_right_when_it_starts_again(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/network.db"
    made = {f"create {key}" for key in OBJECTS} | {
        f"create {ADDRESSES}br0/10.77.0.1/24", f"create {ADDRESSES}end/10.79.0.1/24",
    }  # fmt: skip

    async def main() -> None:
        first, second, heard = (tmp_path / name for name in ("first", "second", "heard"))
        async with DataSync(url, label=network.LABEL) as sync:
            for key, value in OBJECTS.items():
                await sync.put(key, value)
            with program(first, sys.executable, network.__file__, url):
                await eventually(lambda: made <= set(first.read_text().splitlines()))
            before = {name: link["ifindex"] for name, link in links().items()}

            with program(heard, "ip", "monitor"):
                await eventually(lambda: stir() or heard.read_text())
                await sync.put(f"{INTERFACES}more", Interface(type="bridge", up=False))
                with program(second, sys.executable, network.__file__, url):
                    await eventually(lambda: second.read_text())
                    await eventually(lambda: "more" in heard.read_text())

        assert second.read_text() == f"create {INTERFACES}more\n"
        touched = re.findall(r"^(?:Deleted|.* inet 10\.|10\.).*", heard.read_text(), re.MULTILINE)
        assert touched == []
        assert {name: links()[name]["ifindex"] for name in before} == before

    in_namespace(main)


def test_the_order_of_a_plan_without_a_kernel() -> None:
    with Harness() as harness:
        kernel: Any = None  # nothing is asked of it
        harness.add(INTERFACES, network.Interfaces(kernel, harness.handle), type=Interface)
        harness.add(ADDRESSES, network.Addresses(kernel, harness.handle), type=str, derived=True)
        harness.add(ROUTES, network.Routes(kernel, harness.handle), type=Route)

        assert harness.put(FAR, OBJECTS[FAR]) == []
        assert harness.put(f"{INTERFACES}br0", BRIDGE) == [
            f"create {INTERFACES}br0", f"create {ADDRESSES}br0/10.77.0.1/24", f"create {FAR}",
        ]  # fmt: skip
        assert harness.delete(f"{INTERFACES}br0") == [
            f"delete {FAR}", f"delete {ADDRESSES}br0/10.77.0.1/24", f"delete {INTERFACES}br0",
        ]  # fmt: skip
