"""`datasync plan`: what would a file change on a running agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from datasync import DataSync
from datasync.reconcile import Kind, Needs, Reconciler, State
from tests.helpers.command_line import Command, Result, Shell
from tests.helpers.servers import free_ports


class Interface(msgspec.Struct):
    mtu: int = 1500


class Route(msgspec.Struct):
    via: str


class Interfaces(Kind[Interface, None]):
    async def create(self, key: str, value: Interface) -> None: ...

    async def update(self, key: str, old: Interface, new: Interface, handle: None) -> None: ...

    async def delete(self, key: str, value: Interface, handle: None) -> None: ...


class Routes(Kind[Route, None]):
    async def create(self, key: str, value: Route) -> None: ...

    async def delete(self, key: str, value: Route, handle: None) -> None: ...

    def needs(self, key: str, value: Route) -> list[Needs]:
        return [Needs.key(f"if/{value.via}", recreate_on_change=True)]


class Agent:
    def __init__(self, shell: Shell, url: str, sync: DataSync) -> None:
        self.url, self.sync = url, sync
        self._shell = shell

    async def plan(self, *words: str, url: str | None = None) -> Result:
        return await asyncio.to_thread(self._shell.run, "plan", url or self.url, *words)


@contextlib.asynccontextmanager
async def agent(shell: Shell, address: str = "127.0.0.1:0") -> AsyncIterator[Agent]:
    async with DataSync("memory://") as sync:
        rec = Reconciler(sync)
        rec.add("if/", Interfaces(), type=Interface)
        rec.add("route/", Routes(), type=Route)
        async with rec:
            await sync.ready(60)
            await sync.txn().put("if/eth0", Interface()).put("route/a", Route("eth0")).commit()
            await rec.wait("route/a", State.APPLIED, 60)
            yield Agent(shell, (await sync.serve_status(address)).url, sync)


def test_it_shows_what_would_be_done_in_order_and_why_the_rest_is_not(
    shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "new.json").write_text(
        '{"if/eth0": {"mtu": 9000}, "route/b": {"via": "eth7"}, "route/c": 1, "other/x": "y"}'
    )
    (tmp_path / "same.yaml").write_text("if/eth0: {mtu: 1500}\n")

    async def main() -> None:
        async with agent(shell) as it:
            shown = await it.plan("new.json")
            assert shown.code == 1, shown.err
            lines = shown.out.splitlines()
            assert lines[:5] == [
                '- route/a  {"via":"eth0"}',
                "~ if/eth0",
                "    ~ mtu  1500 -> 9000",
                '+ route/a  {"via":"eth0"}',
                "! route/b  pending: waits for if/eth7",
            ]
            assert lines[5].startswith("! route/c  undecodable: ")
            assert lines[6:] == ["1 create, 1 update, 1 delete, 2 not applied; nothing was done"]
            assert "1 key of no kind there: other/x" in shown.err
            assert (await it.sync.get("route/b")) is None

            told = [
                json.loads(line) for line in (await it.plan("new.json", "--json")).out.splitlines()
            ]
            assert told[1] == {
                "op": "update", "key": "if/eth0", "value": '{"mtu":9000}', "prev": '{"mtu":1500}'
            }  # fmt: skip
            assert told[3] == {"op": "pending", "key": "route/b", "reason": "waits for if/eth7"}
            assert told[-1] == {
                "op": "plan", "create": 1, "update": 1, "delete": 1, "unapplied": 2,
                "ignored": ["other/x"],
            }  # fmt: skip

            same = await it.plan("same.yaml")
            assert (same.code, same.out) == (0, "nothing would change\n")
            pruned = await it.plan("same.yaml", "--prune")
            assert pruned.code == 1
            assert pruned.out.splitlines()[0] == '- route/a  {"via":"eth0"}'
            within = await it.plan("same.yaml", "if/", "--prune")
            assert (within.code, within.out) == (0, "nothing would change\n")

    asyncio.run(main())


def test_it_is_asked_with_the_token(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "same.json").write_text('{"if/eth0": {"mtu": 1500}}')

    async def main() -> None:
        async with agent(shell, "http://127.0.0.1:0?token=secret") as it:
            refused = await it.plan("same.json")
            assert refused.code == 2
            assert "token" in refused.error
            asked = await it.plan("same.json", url=f"{it.url}?token=secret")
            assert (asked.code, asked.out) == (0, "nothing would change\n")

    asyncio.run(main())


def test_an_agent_that_clients_push_to_is_asked_at_its_own_address(
    shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "new.json").write_text('{"if/eth0": {"mtu": 9000}, "route/a": {"via": "eth0"}}')
    [port] = free_ports(1)

    async def main() -> None:
        async with DataSync(f"rest://127.0.0.1:{port}?initial=empty&token=secret") as sync:
            rec = Reconciler(sync)
            rec.add("if/", Interfaces(), type=Interface)
            rec.add("route/", Routes(), type=Route)
            async with rec:
                await sync.ready(60)
                await sync.put("if/eth0", Interface())
                await rec.wait("if/eth0", State.APPLIED, 60)
                it = Agent(shell, f"http://127.0.0.1:{port}", sync)
                refused = await it.plan("new.json")
                assert refused.code == 2
                assert "token" in refused.error
                asked = await it.plan("new.json", url=f"{it.url}?token=secret")
                assert asked.code == 1, asked
                assert asked.out.splitlines()[-1] == (
                    "1 create, 1 update, 0 delete, 0 not applied; nothing was done"
                )

    asyncio.run(main())


def test_who_reconciles_nothing_cannot_be_asked(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")

    async def main() -> None:
        async with DataSync("memory://") as sync:
            sync.watcher("", name="all")(lambda event: None)
            url = (await sync.serve_status("127.0.0.1:0")).url
            result = await asyncio.to_thread(shell.run, "plan", url, "a.json")
            assert (result.code, result.out) == (2, "")
            assert "has no reconciler; plan asks the address of serve_status()" in result.error

    asyncio.run(main())


def test_what_cannot_be_asked_or_read_is_said_in_one_line(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "bad.json").write_text("{")
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    for words, text in [
        ((url, "a.json"), "connection refused"),
        (("sqlite:///a.db", "a.json"), "plan asks an agent, not sqlite:///a.db"),
        ((url, "bad.json"), "bad.json, line 1"),
        ((url, "missing.json"), "missing.json"),
    ]:
        result = cli("plan", *words)
        assert (result.code, result.out) == (2, "")
        assert text in result.err
        assert result.err.count("\n") == 1
