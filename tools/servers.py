"""Brings what the tests start: servers from Debian's packages where they are missing,
and those that are built here.

Each line that installs something is said before it is run. What cannot be had is said too, with the
line to type, and left to the tests: they skip, or fail where DATASYNC_REQUIRE_SERVERS is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest

from tests.helpers.codec.go_reader import go_reader
from tests.helpers.etcd.etcd_server import NEW, program
from tests.helpers.grpc.agents import go_client
from tests.helpers.kafka.kafka_server import archive, jars
from tests.helpers.servers import Announce

# program: the package that brings it
PACKAGES = {
    "etcd": "etcd-server", "etcdctl": "etcd-client", "redis-server": "redis-server",
    "java": "default-jre-headless", "mvn": "maven",
    "ed": "ed", "git": "git", "rsync": "rsync", "vim": "vim",
    "chromium": "chromium", "chromedriver": "chromium-driver", "openssl": "openssl",
    "curl": "curl", "promtool": "prometheus", "ip": "iproute2", "nginx": "nginx",
}  # fmt: skip


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def install(packages: list[str]) -> None:
    """Install Debian packages, or say how to."""
    line = f"apt-get install -y {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        say(f"some of the tests skip without these packages; to have them, as root: {line}")
        return
    say(f"apt-get update && {line}")
    for arguments in (["update", "-q"], ["install", "-qy", *packages]):
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            ["apt-get", *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            say(f"apt-get {arguments[0]} failed: {done.stderr.strip()[-500:]}")


def main() -> int:
    """Always 0: the tests judge what is missing."""
    missing = sorted({package for name, package in PACKAGES.items() if shutil.which(name) is None})
    if missing:
        install(missing)
    brought: list[Callable[[Announce], object]] = [
        partial(program, NEW),
        jars,
        archive,
        go_client,
        go_reader,
    ]
    for bring in brought:
        try:
            bring(say)
        except (AssertionError, pytest.skip.Exception, pytest.fail.Exception) as outcome:
            say(str(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
