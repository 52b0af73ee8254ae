"""The graph as DOT and as Mermaid."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from datasync import DataSync, UsageError
from datasync.reconcile import DrawnGraph, Kind, Needs, Reconciler, State
from datasync.testing.contract import eventually


class Thing(msgspec.Struct, frozen=True):
    needs: list[str] = []
    parts: list[str] = []


class Things(Kind[Thing, None]):
    async def create(self, key: str, value: Thing) -> None: ...

    async def delete(self, key: str, value: Thing, handle: None) -> None: ...

    def needs(self, key: str, value: Thing) -> list[Needs]:
        return [_need(text) for text in value.needs]

    def derive(self, key: str, value: Thing) -> dict[str, Thing]:
        return {part: Thing() for part in value.parts}


def _need(text: str) -> Needs:
    if text.endswith("/"):
        return Needs.under(text)
    keys = text.split("|")
    return Needs.key(text) if len(keys) == 1 else Needs.any_of(*keys)


@asynccontextmanager
async def graph_of(stored: dict[str, Thing]) -> AsyncIterator[Reconciler]:
    async with DataSync("memory://") as sync:
        for key, value in stored.items():
            await sync.put(key, value)
        rec = Reconciler(sync)
        for prefix in ("net/", "part/"):
            rec.add(prefix, Things(), type=Thing)
        async with rec:
            settled = (State.APPLIED, State.PENDING)
            await eventually(lambda: all(rec.state(key) in settled for key in stored))
            yield rec


def named(graph: DrawnGraph) -> set[tuple[str, str, bool]]:
    """The arrows, by name."""
    names = [one.name for one in graph.objects]
    return {(names[need.user], names[need.needed], need.met) for need in graph.needs}


CHAIN = {
    "net/a": Thing(),
    "net/b": Thing(["net/a"]),
    "net/c": Thing(["net/b"]),
    "net/d": Thing(["net/c", "net/gone"]),
    "net/far": Thing(["net/d"]),
}
CHOICES = {
    "net/eth0": Thing(parts=["part/eth0/ip"]),
    "net/either": Thing(["net/eth0|net/eth1"]),
    "net/any": Thing(["part/"]),
}


def test_the_whole_graph_is_as_it_stands() -> None:
    async def main() -> None:
        async with graph_of(CHAIN) as rec:
            assert rec.graph().mermaid() == (
                "flowchart LR\n"
                '  n0["net/a<br/>applied"]:::applied\n'
                '  n1["net/b<br/>applied"]:::applied\n'
                '  n2["net/c<br/>applied"]:::applied\n'
                '  n3["net/d<br/>pending"]:::pending\n'
                '  n4["net/far<br/>pending"]:::pending\n'
                '  n5["net/gone<br/>absent"]:::absent\n'
                "  n1 --> n0\n  n2 --> n1\n  n3 --> n2\n  n3 -.-> n5\n  n4 -.-> n3\n"
                "  classDef absent fill:#ffffff,stroke:#1b1e22,color:#1b1e22\n"
                "  classDef applied fill:#e7f4ec,stroke:#1b1e22,color:#1b1e22\n"
                "  classDef pending fill:#fdf3df,stroke:#1b1e22,color:#1b1e22\n"
            )
            lines = rec.graph("net/gone", depth=1).dot().splitlines()
            assert lines[0] == "digraph reconcile {"
            assert lines[3:] == [
                '  n0 [label="net/gone\\nabsent", fillcolor="#ffffff", penwidth=3];',
                '  n1 [label="net/d\\npending", fillcolor="#fdf3df"];',
                "  n1 -> n0 [style=dashed];",
                "}",
            ]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("depth", "keys"),
    [(0, "c"), (1, "c b d"), (2, "c b d a far gone"), (9, "c b d a far gone")],
)
def test_around_one_object_both_ways_the_nearest_first(depth: int, keys: str) -> None:
    async def main() -> None:
        async with graph_of(CHAIN) as rec:
            graph = rec.graph("net/c", depth=depth)
            assert [one.name for one in graph.objects] == [f"net/{key}" for key in keys.split()]
            assert graph.about == "net/c"
            columns = {one.name: one.column for one in graph.objects}
            known = {"b": 2, "a": 4, "d": -2, "far": -4, "gone": 0}
            assert columns == {f"net/{key}": known.get(key, 0) for key in keys.split()}
            assert "n0 stroke-width:3px" in graph.mermaid()

    asyncio.run(main())


def test_choices_stand_between_an_object_and_what_may_meet_its_need() -> None:
    async def main() -> None:
        async with graph_of(CHOICES) as rec:
            whole = rec.graph()
            assert named(whole) == {
                ("net/either", "any of net/eth0, net/eth1", True),
                ("any of net/eth0, net/eth1", "net/eth0", True),
                ("any of net/eth0, net/eth1", "net/eth1", False),
                ("net/any", "any under part/", True),
                ("any under part/", "part/eth0/ip", True),
                ("part/eth0/ip", "net/eth0", True),
            }
            near = {one.name for one in rec.graph("net/eth0").objects}
            assert near == {
                "net/eth0", "net/either", "any of net/eth0, net/eth1", "part/eth0/ip"
            }  # fmt: skip
            assert "shape=diamond" in whole.dot()

    asyncio.run(main())


def test_the_same_objects_give_the_same_text_in_whatever_order_they_came() -> None:
    async def main() -> None:
        texts = set()
        for seed in range(4):
            stored = list((CHAIN | CHOICES).items())
            random.Random(seed).shuffle(stored)
            async with graph_of(dict(stored)) as rec:
                texts.add((rec.graph().dot(), rec.graph().mermaid()))
                texts.add((rec.graph().dot(), rec.graph().mermaid()))
        assert len(texts) == 1

    asyncio.run(main())


def test_a_key_breaks_out_of_neither_format() -> None:
    key = 'net/"];x[#quot;\\N<b>`\u202e\n--> y'

    async def main() -> None:
        async with graph_of({key: Thing()}) as rec:
            dot, mermaid = rec.graph().dot(), rec.graph().mermaid()
        [label] = re.findall(
            r'^  n0 \[label="((?:[^"\\]|\\.)*)", fillcolor="#e7f4ec"\];$', dot, re.M
        )
        shown = key.replace("\u202e", "\\u202e").replace("\n", "\\n")
        assert re.sub(r"\\(.)", r"\1", label.removesuffix("\\napplied")) == shown
        [label] = re.findall(r'^  n0\["([^"]*)<br/>applied"\]:::applied$', mermaid, re.M)
        assert not re.search("[<>`\\\\]", label)
        assert re.sub(r"#(\d+);", lambda found: chr(int(found[1])), label) == shown

    asyncio.run(main())


def test_what_there_is_not_cannot_be_drawn() -> None:
    async def main() -> None:
        async with graph_of(CHAIN) as rec:
            with pytest.raises(KeyError):
                rec.graph("net/nowhere")
            with pytest.raises(UsageError, match="depth must be an integer >= 0"):
                rec.graph("net/a", depth=-1)

    asyncio.run(main())
