"""The step of the story in which objects need each other: what waits is applied by itself, and what
somebody changed by hand is put right.

A directory stands for the machine; each object that is in force is a file there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote

from google.protobuf import text_format

from datasync import NotApplied, Verdict
from datasync.demo.network_pb2 import Interface, Route
from datasync.demo.screen import in_words
from datasync.demo.stage import PATIENCE, Stage
from datasync.reconcile import Found, Kind, Needs, Reconciler, State

__all__ = ["reconciled"]

M = TypeVar("M", Interface, Route)

_INTERFACES, _ROUTES = "lab/interface/", "lab/route/"


class Files(Kind[M, None]):
    """Objects of one type, as files of a directory.

    prefix: what their keys begin with.
    make: makes an empty object.
    tell: hears of each operation, in words.
    """

    def __init__(
        self, directory: Path, prefix: str, make: type[M], tell: Callable[[str], None]
    ) -> None:
        self.directory = directory
        self.prefix = prefix
        self._make: type[M] = make
        self._tell = tell

    def path(self, key: str) -> Path:
        """Where it is in force."""
        return self.directory / quote(key, safe="")

    def create(self, key: str, value: M) -> None:
        self._write(key, value)
        self._tell(f"create {key}: {in_words(value)}")

    def update(self, key: str, old: M, new: M, handle: None) -> None:
        self._write(key, new)
        self._tell(f"update {key}: {in_words(old)} -> {in_words(new)}")

    def delete(self, key: str, value: M, handle: None) -> None:
        self.path(key).unlink()
        self._tell(f"delete {key}")

    def retrieve(
        self, expected: Mapping[str, M], keys: Collection[str] | None
    ) -> Iterable[Found[M, None]]:
        for path in self.directory.iterdir():
            key = unquote(path.name)
            if key.startswith(self.prefix):
                value = text_format.Parse(path.read_text(), self._make())
                yield Found(key, value, None, ours=True)

    def _write(self, key: str, value: M) -> None:
        self.path(key).write_text(text_format.MessageToString(value))


class Routes(Files[Route]):
    """Each needs the interface that it leaves by."""

    def needs(self, key: str, value: Route) -> list[Needs]:
        return [Needs.key(f"{_INTERFACES}{value.interface}")]


async def reconciled(stage: Stage) -> None:
    """A route is stored before its interface; then somebody changes the machine."""
    screen, sync = stage.screen, stage.agent.sync
    screen.head(
        "9. Objects that need each other: a route is stored before the interface it leaves by"
    )
    machine = stage.directory / "machine"
    machine.mkdir()
    done: list[str] = []
    rec = Reconciler(sync)
    interfaces = Files(machine, _INTERFACES, Interface, done.append)
    rec.add(_INTERFACES, interfaces, type=Interface)
    rec.add(_ROUTES, Routes(machine, _ROUTES, Route, done.append), type=Route)

    near, route = f"{_INTERFACES}lab1", f"{_ROUTES}10.81.0.0/16"
    async with rec:
        answer = None
        try:
            await sync.put(route, Route(destination="10.81.0.0/16", interface="lab1"), confirm=True)
        except NotApplied as error:
            answer = error
        screen.say(f"the publisher: {type(answer).__name__}: {answer}")
        screen.check(
            "the publisher was told that the route is pending, and for what",
            answer is not None
            and answer.verdict is Verdict.PENDING
            and answer.outcomes[route].reason == f"waits for {near}"
            and not done,
        )

        await sync.put(near, Interface(name="lab1", state=Interface.UP, mtu=1500), confirm=True)
        await rec.wait(route, State.APPLIED, PATIENCE)
        _show(stage, done)
        screen.check(
            "the interface came and was made, then by itself the route that had waited for it",
            _verbs(done) == [f"create {near}", f"create {route}"],
        )

        screen.say("somebody gives the interface another MTU, by hand")
        path = interfaces.path(near)
        path.write_text(path.read_text().replace("1500", "1400"))
        done.clear()
        await rec.refresh()
        await rec.wait(near, State.APPLIED, PATIENCE)
        _show(stage, done)
        screen.check("it was put right, in place", _verbs(done) == [f"update {near}"])

        screen.say("somebody removes it")
        path.unlink()
        done.clear()
        await rec.refresh()
        await rec.wait(route, State.APPLIED, PATIENCE)
        _show(stage, done)
        screen.check(
            "it was made again, and the route around it",
            _verbs(done) == [f"delete {route}", f"create {near}", f"create {route}"],
        )


def _show(stage: Stage, done: Iterable[str]) -> None:
    for operation in done:
        stage.screen.say(f"    {operation}")


def _verbs(done: Iterable[str]) -> list[str]:
    """What was done to which object, in order."""
    return [operation.partition(":")[0] for operation in done]
