"""The readers of /proc and /sys, on recorded texts, on broken ones, and on this machine."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("google.protobuf")

from datasync.demo import network
from datasync.demo.network_pb2 import Interface, Route

LITTLE = pytest.mark.skipif(
    sys.byteorder != "little", reason="the texts below were recorded on a little-endian CPU"
)

DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0
  eth0: 852135493   25838    0    0    0     0          0         0  1600735   13812    0    0    0     0       0          0
"""
ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
*\t006433C6\t00000000\t0201\t0\t0\t0\t00FFFFFF\t0\t0\t0
gone0\t000010AC\t00000000\t0001\t0\t0\t0\t0000F0FF\t0\t0\t0
eth0\t000010AC\t00000000\t0000\t0\t0\t0\t0000F0FF\t0\t0\t0
"""
ROUTE6 = """\
fd000000000000000000000000000000 40 {0} 00 {0} 00000100 00000001 00000000 00000001     eth0
{0} 00 {0} 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0
{1} 80 {0} 00 {0} 00000000 00000002 00000000 80200001       lo
ff000000000000000000000000000000 08 {0} 00 {0} 00000100 00000003 00000000 00000001     eth0
{0} 00 {0} 00 {0} ffffffff 00000001 00000000 00200200       lo
""".format("0" * 32, "0" * 31 + "1")
TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.1
              /32 host LOCAL
     +-- 192.0.2.0/24 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.2
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
"""
IF_INET6 = (
    "fd000000000000000000000000000002 04 40 00 82     eth0\n00000000000000000000000000000001 01 80 "
    "10 80       lo\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with a kernel's files of one machine."""
    for name, text in {
        "dev": DEV, "route": ROUTE, "ipv6_route": ROUTE6, "fib_trie": TRIE, "if_inet6": IF_INET6,
    }.items():  # fmt: skip
        write(tmp_path / "proc/net" / name, text)
    for interface, values in {
        "eth0": {"mtu": "1400\n", "address": "02:fc:00:00:00:01\n", "operstate": "up\n"},
        "lo": {"mtu": "65536\n", "address": "00:00:00:00:00:00\n", "operstate": "unknown\n"},
    }.items():
        for attribute, text in values.items():
            write(tmp_path / "sys/class/net" / interface / attribute, text)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@LITTLE
def test_a_machine_as_its_kernel_describes_it(root: Path) -> None:
    found = network.of_kernel(root)
    assert found.interfaces == {
        "config/interface/lo": Interface(
            name="lo", mtu=65536, mac="00:00:00:00:00:00", addresses=["127.0.0.1/8", "::1/128"]
        ),
        "config/interface/eth0": Interface(
            name="eth0",
            state=Interface.UP,
            mtu=1400,
            mac="02:fc:00:00:00:01",
            addresses=["192.0.2.2/24", "fd00::2/64"],
        ),
    }
    # neither the blackhole, nor the multicast and local ones, nor one of an interface that is not
    # there, nor one down
    assert found.routes == {
        "config/route/eth0/0.0.0.0/0/100": Route(
            destination="0.0.0.0/0", interface="eth0", gateway="192.0.2.1", metric=100
        ),
        "config/route/eth0/192.0.2.0/24/0": Route(destination="192.0.2.0/24", interface="eth0"),
        "config/route/eth0/fd00::/64/256": Route(
            destination="fd00::/64", interface="eth0", metric=256
        ),
        "config/route/eth0/::/0/1024": Route(
            destination="::/0", interface="eth0", gateway="fd00::1", metric=1024
        ),
    }
    assert not found.is_small


def test_a_kernel_that_does_not_tell(tmp_path: Path) -> None:
    found = network.of_kernel(tmp_path)
    assert found == network.Network()
    assert found.is_small


@LITTLE
def test_an_interface_without_attributes(root: Path) -> None:
    shutil.rmtree(root / "sys")
    eth0 = network.of_kernel(root).interfaces["config/interface/eth0"]
    assert (eth0.state, eth0.mtu, eth0.mac, list(eth0.addresses)) == (
        0,
        0,
        "",
        ["192.0.2.2/24", "fd00::2/64"],
    )


@LITTLE
@pytest.mark.parametrize("name", ["dev", "route", "ipv6_route", "fib_trie", "if_inet6"])
@pytest.mark.parametrize(
    "rubbish",
    ["", "\n\n", "a b c\n", ":\n", "x:y\n", "eth0\tGG\n", "\x00\xff\n", "|--\n/32 host LOCAL\n"],
)
def test_lines_that_are_not_understood_are_left_out(root: Path, name: str, rubbish: str) -> None:
    whole = network.of_kernel(root)
    path = root / "proc/net" / name
    path.write_bytes(path.read_bytes() + rubbish.encode("latin-1"))
    assert network.of_kernel(root) == whole


@LITTLE
@pytest.mark.parametrize("name", ["dev", "route", "ipv6_route", "fib_trie", "if_inet6"])
def test_a_file_cut_off_anywhere(root: Path, name: str) -> None:
    whole = network.of_kernel(root)
    path = root / "proc/net" / name
    text = path.read_text()
    for end in range(len(text)):
        path.write_text(text[:end])
        found = network.of_kernel(root)
        assert found.interfaces.keys() <= whole.interfaces.keys() | {"config/interface/"}
        for route in found.routes.values():
            assert network.interface_key(route.interface) in found.interfaces


def test_only_a_loopback_is_small(root: Path) -> None:
    write(root / "proc/net/dev", DEV.rsplit("\n", 2)[0])
    found = network.of_kernel(root)
    assert list(found.interfaces) == ["config/interface/lo"]
    assert found.is_small


def test_the_recorded_network() -> None:
    found = network.recorded()
    assert not found.is_small
    assert found.interfaces["config/interface/uplink1"] == Interface(
        name="uplink1",
        state=Interface.UP,
        mtu=1492,
        mac="52:54:00:a1:00:02",
        addresses=["203.0.113.6/29", "fe80::5054:ff:fea1:2/64"],
    )
    assert found.interfaces["config/interface/spare0"].state == Interface.DOWN
    assert found.routes["config/route/tunnel40/10.60.0.0/14/0"].gateway == "10.99.0.2"
    assert len(found.interfaces) == 7
    assert len(found.routes) == 18
    assert {
        network.interface_key(route.interface) for route in found.routes.values()
    } < found.interfaces.keys()


def test_what_is_there_stays_when_the_recorded_network_is_added() -> None:
    mine = network.Network({"config/interface/lo": Interface(name="lo", mtu=1)})
    mine.add(network.recorded())
    assert mine.interfaces["config/interface/lo"].mtu == 1
    assert len(mine.interfaces) == 7


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has these files")
def test_this_machine() -> None:
    found = network.of_kernel()
    for key, interface in found.interfaces.items():
        assert key == network.interface_key(interface.name)
        assert (Path("/sys/class/net") / interface.name).exists()
    for key, route in found.routes.items():
        assert key == network.route_key(route)
        assert network.interface_key(route.interface) in found.interfaces
