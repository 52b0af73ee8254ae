"""file:// on the command line: read, served, mirrored, and killed."""

from __future__ import annotations

import pathlib
import signal

import pytest

from tests.helpers.command_line import Command, Shell
from tests.helpers.files import replace
from tests.helpers.servers import free_ports


@pytest.fixture
def etc(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "net.yaml").write_text("mtu: 1500\nname: eth0\n")
    return directory


def test_files_are_read_as_any_other_source(cli: Command, etc: pathlib.Path) -> None:
    assert cli("get", "file://./etc/", "net/mtu").out == "1500\n"
    assert cli("ls", "file://./etc/?at=config/").out == "config/net/mtu\nconfig/net/name\n"
    assert cli("get", "file://./etc/net.yaml", "mtu", "--label", "vpp1").out == "1500\n"
    assert cli("diff", "file://./etc/", "etc").code == 0

    assert cli("mirror", f"file://{etc}", "sqlite:///a.db", "--once").code == 0
    assert cli("dump", "sqlite:///a.db").out == cli("dump", "file://./etc/").out != ""
    for words in (("put", "net/mtu", "9000"), ("del", "net/mtu")):
        error = cli(words[0], "file://./etc/", *words[1:]).error
        assert error.endswith("takes no writes; edit the files")
    assert cli("get", "file://./nothing/", "a").error.endswith("nothing: No such file or directory")

    (etc / "net.yaml").write_text("mtu: [\n")
    result = cli("dump", "file://./etc/")
    assert result.code == 1
    assert f"{etc}/net.yaml, line 2, column 1: " in result.err


def test_a_reader_that_is_killed_finds_all_of_it_again(shell: Shell, etc: pathlib.Path) -> None:
    def watching(mtu: int) -> None:
        watch = shell.start("watch", "file://./etc/", "net/")
        watch.wait_for(f"net/mtu  {mtu}")
        replace(etc / "net.yaml", f"mtu: {mtu + 1}\nname: eth0\n")
        watch.wait_for(f"net/mtu  {mtu} -> {mtu + 1}")
        assert watch.out.decode().count("net/name") == 1  # it did not change
        watch.end(signal.SIGKILL)

    watching(1500)
    watching(1501)
    replace(etc / "net.yaml", "mtu: 9000\nname: eth0\n")
    watching(9000)


def test_what_is_served_says_which_file_is_broken(shell: Shell, etc: pathlib.Path) -> None:
    [port] = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    served = shell.start("serve", "file://./etc/", "--http", f"127.0.0.1:{port}")
    served.wait_for(address)
    assert shell.run("get", address, "net/mtu").out == "1500\n"
    replace(etc / "net.yaml", "mtu: 9000\nname: [\n")
    place = f"{etc}/net.yaml, line 3, column 1: "
    served.wait_for(place, err=True)
    assert place in shell.run("status", address).out
    assert shell.run("get", address, "net/mtu").out == "1500\n"
    served.end()
