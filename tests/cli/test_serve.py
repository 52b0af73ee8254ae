"""serve: what it says of itself."""

from __future__ import annotations

import re

import pytest

from tests.helpers.command_line import Shell


@pytest.mark.parametrize(("option", "scheme"), [("--http", "http"), ("--grpc", "grpc+watch")])
def test_a_port_that_the_system_chose_is_said(shell: Shell, option: str, scheme: str) -> None:
    shell.run("put", "sqlite:///net.db", "config/mtu", "1500")
    served = shell.start("serve", "sqlite:///net.db", option, "127.0.0.1:0")
    served.wait_for("\n")
    said = re.fullmatch(
        rf"serving sqlite:///net\.db on {option[2:]}://(127\.0\.0\.1:[1-9]\d*)\n",
        served.out.decode(),
    )
    assert said is not None, served
    assert shell.run("get", f"{scheme}://{said[1]}", "config/mtu").out == "1500\n"
    served.end()
