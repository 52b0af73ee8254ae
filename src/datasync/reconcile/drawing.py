"""The graph of the objects, whole or around one of them, as data, as DOT and as Mermaid.

The same objects give the same text: all is in the order of the keys.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from datasync.reconcile.facts import key_of
from datasync.reconcile.graph import Graph
from datasync.reconcile.slots import Choice, Node, Slot
from datasync.reconcile.states import State
from datasync.texts import printable

__all__ = ["DrawnGraph", "DrawnNeed", "DrawnObject", "drawn"]

_COLOURS = {
    "pending": "#fdf3df", "running": "#eaf0fd", "applied": "#e7f4ec", "invalid": "#fdecea",
    "failed": "#fdecea", "unmanaged": "#efefeb", "removing": "#eaf0fd", "absent": "#ffffff",
}  # fmt: skip
_INK = "#1b1e22"


class DrawnObject(msgspec.Struct, frozen=True):
    """An object, or a key that is needed and where nothing is (its state is None); or a choice,
    between an object and those of which it needs any.

    name: the key, or the need as it is said.
    column: where it is beside the object in the middle, two a step: what that needs is above 0, and
        what needs it below; 0 in a whole graph.
    """

    name: str
    state: State | None
    is_choice: bool = False
    column: int = 0


class DrawnNeed(msgspec.Struct, frozen=True):
    """An arrow from what needs to what is needed; from a choice to what may meet it.

    user, needed: indexes of the objects.
    met: whether it is there, and stays.
    """

    user: int
    needed: int
    met: bool


class DrawnGraph(msgspec.Struct, frozen=True):
    """Objects with their needs.

    about: the key of the object in the middle, the first one; None where it is the whole graph.
    more: how many objects were left out, for there are too many.
    """

    about: str | None
    objects: list[DrawnObject]
    needs: list[DrawnNeed]
    more: int = 0

    def dot(self) -> str:
        """For Graphviz: `dot -Tsvg`."""
        lines = [
            "digraph reconcile {",
            "  rankdir=LR;",
            f'  node [shape=box, style="rounded,filled", color="{_INK}", fontname="sans-serif"];',
        ]
        for number, one in enumerate(self.objects):
            label = "\\n".join(
                text.replace("\\", "\\\\").replace('"', '\\"') for text in _lines(one)
            )
            more = ", shape=diamond" if one.is_choice else ""
            if self.about is not None and number == 0:
                more += ", penwidth=3"
            lines.append(
                f'  n{number} [label="{label}", fillcolor="{_COLOURS[_class(one)]}"{more}];'
            )
        for need in self.needs:
            style = "" if need.met else " [style=dashed]"
            lines.append(f"  n{need.user} -> n{need.needed}{style};")
        return "\n".join([*lines, "}", ""])

    def mermaid(self) -> str:
        """For Mermaid, which GitHub and many wikis draw."""
        lines = ["flowchart LR"]
        for number, one in enumerate(self.objects):
            label = "<br/>".join(map(_entities, _lines(one)))
            left, right = ('{{"', '"}}') if one.is_choice else ('["', '"]')
            lines.append(f"  n{number}{left}{label}{right}:::{_class(one)}")
        lines += [
            f"  n{need.user} {'-->' if need.met else '-.->'} n{need.needed}" for need in self.needs
        ]
        lines += [
            f"  classDef {name} fill:{_COLOURS[name]},stroke:{_INK},color:{_INK}"
            for name in sorted({_class(one) for one in self.objects})
        ]
        if self.about is not None:
            lines.append("  style n0 stroke-width:3px")
        return "\n".join([*lines, ""])


def _class(one: DrawnObject) -> str:
    if one.is_choice:
        return "unmanaged"
    return "absent" if one.state is None else one.state.value


def _lines(one: DrawnObject) -> list[str]:
    name = printable(one.name)
    return [name] if one.is_choice else [name, _class(one)]


def _entities(text: str) -> str:
    """Text in which Mermaid finds no markup; its entities begin with a number sign."""
    return "".join(f"#{ord(ch)};" if ch in '"#&<>\\`' else ch for ch in text)


def drawn(graph: Graph, about: Node | None, depth: int, most: int | None = None) -> DrawnGraph:
    """Take the picture.

    about: the object in the middle; None for all.
    depth: over how many needs to go from there, both ways.
    most: objects; those that are farther are left out.
    """
    if about is None:
        columns = dict.fromkeys(sorted(graph.nodes.values(), key=key_of), 0)
    else:
        columns = _around(graph, about, depth)
    nodes = list(columns)
    kept = nodes if most is None else nodes[:most]

    slots: dict[Slot, int] = {node: number for number, node in enumerate(kept)}
    objects = [DrawnObject(node.key, node.state, False, columns[node]) for node in kept]
    needs: list[DrawnNeed] = []
    for node in kept:
        for slot in _needed(node):
            if isinstance(slot, Choice) and slot not in slots:
                slots[slot] = len(objects)
                objects.append(DrawnObject(str(slot.need), None, True, columns[node] + 1))
            if slot in slots:
                needs.append(DrawnNeed(slots[node], slots[slot], slot.held))
    for slot, number in slots.items():
        if isinstance(slot, Choice):
            needs += [
                DrawnNeed(number, slots[member], member.held and slot.fits(member.have))
                for member in sorted(slot.members, key=key_of)
                if member in slots
            ]
    return DrawnGraph(
        None if about is None else about.key, objects, needs, len(nodes) - len(kept)
    )  # fmt: skip


def _around(graph: Graph, about: Node, depth: int) -> dict[Node, int]:
    """Those that are no farther from it than that, the nearest first, each with its column."""
    columns = {about: 0}
    edge = [about]
    for _ in range(depth):
        found: dict[Node, int] = {}
        for node in edge:
            below = (one for slot in _needed(node) for one in graph.members(slot))
            above = (one for slot in (node, *graph.choices_of(node)) for one in slot.users)
            for step, nodes in ((2, below), (-2, above)):
                for near in nodes:
                    if near not in columns:
                        found.setdefault(near, columns[node] + step)
        edge = sorted(found, key=key_of)
        columns.update((node, found[node]) for node in edge)
    return columns


def _needed(node: Node) -> Iterable[Slot]:
    """What it needs, or stands on, in an order that does not change."""
    return sorted(dict.fromkeys((*node.needs, *node.leans)), key=_name)


def _name(slot: Slot) -> str:
    return slot.key if isinstance(slot, Node) else str(slot.need)  # type: ignore[attr-defined]
