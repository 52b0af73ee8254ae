"""What values would change on a running agent: asked, and answered."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from datasync.checks import check_key, check_prefix
from datasync.documents import checked, entries, format_of
from datasync.errors import DecodeError, UsageError
from datasync.reconcile.operations import Verb
from datasync.reconcile.picture import reason_of
from datasync.reconcile.rehearsal import Rehearsal, same
from datasync.reconcile.slots import Operation
from datasync.reconcile.states import State
from datasync.reconcile.turns import PORTION, News
from datasync.reconcile.values import encoded

__all__ = ["PlanRequest", "PlannedOperation", "Preview", "Unapplied", "previewed", "values_in"]

T = TypeVar("T")


class PlannedOperation(msgspec.Struct, frozen=True):
    """An operation that would be carried out.

    old, new: the value that the object has and would have, as JSON (bytes and text as they are);
        None where it is absent.
    """

    verb: Verb
    key: str
    old: bytes | None
    new: bytes | None


class Unapplied(msgspec.Struct, frozen=True):
    """An object that would not be as it is to be, and why."""

    key: str
    state: State
    reason: str


class Preview(msgspec.Struct, frozen=True):
    """What values would change.

    operations: in the order in which they would begin; what is independent would run side by side.
    unapplied: the objects that would then be pending, invalid or the like; of those that nothing
        changes, none.
    undecodable: keys whose values do not decode, with the reason; they would change nothing.
    ignored: keys that are of no kind, and change nothing here.
    """

    operations: list[PlannedOperation]
    unapplied: list[Unapplied]
    undecodable: dict[str, str] = {}
    ignored: list[str] = []

    @property
    def changes_nothing(self) -> bool:
        """Whether all would stay as it is."""
        return not (self.operations or self.unapplied or self.undecodable)


class PlanRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What `POST /v1/panels/reconcile/plan` takes, as JSON.

    put: values by key, in base64.
    prune: the prefix under which what `put` lacks would be deleted; None: nothing would be.
    """

    put: dict[str, bytes]
    prune: str | None = None


async def previewed(
    rehearsal: Rehearsal,
    between_turns: Callable[[News], Awaitable[None]],
    is_watched: Callable[[str], bool],
    decode: Callable[[str, bytes], Any],
    values: Mapping[str, object],
    prune: str | None,
) -> Preview:
    """Try it on a second planner.

    between_turns: does what must not come in between two decisions of the first one.
    is_watched: whether what is stored under a key reaches the first one.
    decode: makes the value of a key from its bytes.
    """
    for key in values:
        check_key(key, rooted=False)
    if prune is not None:
        check_prefix(prune)
    ignored = sorted(key for key in values if not is_watched(key))
    given: dict[str, Any] = {}
    undecodable: dict[str, str] = {}
    async for key, value in _in_portions([*values.items()]):
        if is_watched(key):
            try:
                given[key] = decode(key, value) if isinstance(value, bytes) else value
            except DecodeError as error:
                undecodable[key] = str(error)

    await between_turns(rehearsal.copy)
    stored = rehearsal.stored
    put = {
        key: value
        async for key, value in _in_portions(given.items())
        if value is not None and not (key in stored and same(stored[key], value))
    }
    delete = [key for key, value in given.items() if value is None]
    if prune is not None:
        delete += [key for key in stored if key.startswith(prune) and key not in values]

    async for _ in _in_portions(rehearsal.take_over()):
        pass
    operations = [
        _planned(op) async for op in _in_portions(rehearsal.play(put, delete)) if op is not None
    ]
    unapplied = [
        Unapplied(node.key, node.state, reason_of(rehearsal.planner, node))
        async for node in _in_portions(rehearsal.unapplied(put))
        if node is not None and node.state is not None
    ]
    unapplied.sort(key=lambda one: one.key)
    return Preview(operations, unapplied, undecodable, ignored)


async def _in_portions(steps: Iterable[T]) -> AsyncIterator[T]:
    """One after the other; the loop turns now and then."""
    for number, step in enumerate(steps, 1):
        yield step
        if number % PORTION == 0:
            await asyncio.sleep(0)


def values_in(file: pathlib.Path) -> dict[str, bytes]:
    """The values of a document, by key. Raises `BadFile`, `UsageError`, `OSError`."""
    name = str(file)
    kind = format_of(name)
    if kind is None:
        raise UsageError(f"the name {name!r} does not tell the format; end it in .yaml, .json, ...")
    found = checked(
        name, entries(kind, name, file.read_bytes()), lambda key: check_key(key, rooted=False)
    )
    return {entry.key: entry.raw for entry in found}


def _planned(op: Operation) -> PlannedOperation:
    return PlannedOperation(op.verb, op.key, encoded(op.key, op.old), encoded(op.key, op.new))
