"""An agent that keeps the upstreams and virtual hosts of an nginx as they are stored.

    python examples/nginx.py sqlite:///web.db /srv/web      # makes /srv/web where it is missing
    nginx -p /srv/web -c nginx.conf                         # from another terminal

    datasync put --label web1 sqlite:///web.db config/upstream/app '{"servers": ["127.0.0.1:9001"]}'
    datasync put --label web1 sqlite:///web.db config/host/shop \\
        '{"listen": "127.0.0.1:8080", "names": ["localhost"], "upstream": "app"}'

Each change is tried on a copy of all files with `nginx -t`, put in place, and taken over by a
graceful reload: requests that are under way are answered. What nginx does not take is told to the
publisher in its own words, and is never in place. A file that was edited by hand is put right.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, TypeVar

import msgspec

from datasync import DataSync, Refused
from datasync.reconcile import Found, Kind, Needs, Reconciler

LABEL = "web1"
UPSTREAMS, HOSTS = "config/upstream/", "config/host/"
PATIENCE = 30.0
"""Seconds within which nginx answers."""

MAIN = """\
pid nginx.pid;
error_log error.log notice;
events {}
http {
    access_log off;
    include conf.d/*.conf;
}
"""
_WORDS = re.compile(r"\[(?:emerg|alert|crit)\] [\d#]+: (.*)")


class Upstream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is stored, as JSON, under config/upstream/NAME: who answers, as host:port."""

    servers: list[str]


class Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is stored, as JSON, under config/host/NAME: where nginx listens, for which names, and
    the upstream that it passes requests to."""

    listen: str
    names: list[str]
    upstream: str


V = TypeVar("V", Upstream, Host)


class Nginx:
    """One nginx and its files. One change is made at a time.

    home: its prefix; made, with an nginx.conf, where it is missing.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.files = home / "conf.d"
        self._lock = threading.Lock()
        self.files.mkdir(parents=True, exist_ok=True)
        if not (home / "nginx.conf").exists():
            (home / "nginx.conf").write_text(MAIN)

    def read(self, pattern: str) -> dict[str, str]:
        """The files that are in place, by name."""
        with self._lock:
            return {path.name: path.read_text() for path in self.files.glob(pattern)}

    def install(self, file: str, text: str | None) -> None:
        """Let that file be in place and in force; None: no such file.

        Raises `Refused` for what nginx does not take, `OSError` where it cannot now; all is as
        it was then.
        """
        path = self.files / file
        with self._lock:
            before = path.read_text() if path.exists() else None
            self._try(file, text)
            self._write(path, text)
            try:
                self._reload()
            except OSError:
                self._write(path, before)
                raise

    def _try(self, file: str, text: str | None) -> None:
        with TemporaryDirectory(prefix="nginx-") as scratch:
            shutil.copy(self.home / "nginx.conf", scratch)
            shutil.copytree(self.files, Path(scratch, "conf.d"))
            self._write(Path(scratch, "conf.d", file), text)
            command = ["nginx", "-t", "-q", "-p", scratch, "-c", "nginx.conf", "-e", "stderr"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            if done.returncode:
                raise Refused(_words(done.stderr).replace(f"{scratch}/", ""))

    def _write(self, path: Path, text: str | None) -> None:
        if text is None:
            path.unlink(missing_ok=True)
        else:
            new = path.with_suffix(".new")
            new.write_text(text)
            new.replace(path)

    def _reload(self) -> None:
        """Until workers run that have read the files. An nginx that does not run reads them when it
        is started."""
        master = self._master()
        if master is None:
            return
        log = self.home / "error.log"
        said, before = log.stat().st_size, _children(master)
        os.kill(master, signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        while not _children(master) - before:
            with log.open() as lines:
                lines.seek(said)
                if "[emerg]" in (text := lines.read()):
                    raise OSError(_words(text))
            if time.monotonic() > deadline:
                raise TimeoutError(f"nginx has no new workers after {PATIENCE:g} s")
            time.sleep(0.01)

    def _master(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.home / "nginx.pid").read_text())
            os.kill(pid, 0)
            return pid
        return None


def _children(pid: int) -> set[str]:
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _words(log: str) -> str:
    found = _WORDS.search(log)
    return found[1] if found else log.strip()


class Files(Kind[V | None, None], Generic[V]):
    """Objects that are files. The first line of each is the value that it was made from; where the
    rest says something else, somebody has edited it, and there is no value that it has (None)."""

    prefix: str
    type: type[V]

    def __init__(self, nginx: Nginx) -> None:
        self.nginx = nginx

    def render(self, name: str, value: V) -> str:
        """What nginx is to read."""
        raise NotImplementedError

    def create(self, key: str, value: V | None) -> None:
        assert value is not None  # that is found, and never stored
        self.nginx.install(self._file(key), self._text(key, value))

    def update(self, key: str, old: V | None, new: V | None, handle: None) -> None:
        self.create(key, new)

    def delete(self, key: str, value: V | None, handle: None) -> None:
        self.nginx.install(self._file(key), None)

    def retrieve(
        self, expected: Mapping[str, V | None], keys: Collection[str] | None
    ) -> list[Found[V | None, None]]:
        found: list[Found[V | None, None]] = []
        for file, text in self.nginx.read(self._file(f"{self.prefix}*")).items():
            key = self.prefix + file.partition("-")[2].removesuffix(".conf")
            found.append(Found(key, self._value(key, text), None, ours=True))
        return found

    def _file(self, key: str) -> str:
        return f"{self.type.__name__.lower()}-{key.removeprefix(self.prefix)}.conf"

    def _text(self, key: str, value: V) -> str:
        head = msgspec.json.encode(value).decode()
        return f"# {head}\n{self.render(key.removeprefix(self.prefix), value)}"

    def _value(self, key: str, text: str) -> V | None:
        with contextlib.suppress(msgspec.MsgspecError):
            value = msgspec.json.decode(text.partition("\n")[0].removeprefix("# "), type=self.type)
            if self._text(key, value) == text:
                return value
        return None

    def validate(self, key: str, value: V | None) -> None:
        for word in (key.removeprefix(self.prefix), *_strings(value)):
            if not re.fullmatch(r"[\w.:*\[\]-]+", word):
                raise ValueError(f"{word!r} is not a name or an address")


def _strings(value: object) -> Iterator[str]:
    """All that a value puts into a file."""
    for field in msgspec.structs.asdict(value).values():  # type: ignore[arg-type]
        yield from [field] if isinstance(field, str) else field


class Upstreams(Files[Upstream]):
    prefix, type = UPSTREAMS, Upstream

    def render(self, name: str, value: Upstream) -> str:
        servers = "".join(f"    server {server};\n" for server in value.servers)
        return f"upstream {name} {{\n{servers}}}\n"


class Hosts(Files[Host]):
    prefix, type = HOSTS, Host

    def render(self, name: str, value: Host) -> str:
        return (
            f"server {{\n    listen {value.listen};\n    server_name {' '.join(value.names)};\n"
            f"    location / {{ proxy_pass http://{value.upstream}; }}\n}}\n"
        )

    def needs(self, key: str, value: Host | None) -> Iterator[Needs]:
        if value is not None:
            yield Needs.key(UPSTREAMS + value.upstream)


def reconciler(sync: DataSync, nginx: Nginx) -> Reconciler:
    """The two kinds. What was edited is looked for once a second."""
    rec = Reconciler(sync, refresh_interval=1.0)
    rec.add(UPSTREAMS, Upstreams(nginx), type=Upstream)
    rec.add(HOSTS, Hosts(nginx), type=Host)
    return rec


async def main(url: str, home: str) -> None:
    async with DataSync(url, label=LABEL) as sync, reconciler(sync, Nginx(Path(home))):
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], sys.argv[2]))
