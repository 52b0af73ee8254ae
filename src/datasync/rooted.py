"""A source seen from below a prefix: the keys of one DataSync are relative to it.

A store may hold keys below the prefix that have no name there: the prefix itself, as folder
markers are, and what goes on with a second slash. They are skipped here, once for all sources and
for everything that serves one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from datasync.checks import check_key, check_prefix
from datasync.errors import Conflict
from datasync.findings import Finding
from datasync.forwarding import ForwardingPush, ForwardingSession, ForwardingSource
from datasync.skipped_keys import SkippedKeys
from datasync.source import (
    Check,
    Commit,
    Committed,
    Delete,
    Frame,
    Item,
    Operation,
    PushSession,
    Put,
    Reply,
    Result,
    Session,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    Source,
    handed_on,
)
from datasync.texts import logger

__all__ = ["Rooted"]

_NAMELESS = "/"
"""`key[:1] in _NAMELESS`: whether a key below a root is empty or starts with
a slash, which no name does."""


class Rooted(ForwardingSource):
    """`source`, with `root` put before every key on the way in and taken off on the way out."""

    def __init__(self, source: Source, root: str) -> None:
        super().__init__(source)
        self._root = root
        self._skipped = SkippedKeys(logger("datasync.keys"))

    async def open(
        self, scopes: Sequence[str], resume: Any | None = None, added: Sequence[str] = ()
    ) -> Session:
        root = self._root
        session = await self._source.open(
            [root + scope for scope in scopes], resume, [root + scope for scope in added]
        )
        return (_RootedPush if isinstance(session, PushSession) else _RootedSession)(
            session, root, self._skip
        )

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        root = self._root
        whole: list[Operation] = []
        for operation in operations:
            match operation:
                case Put(key, raw, ttl, content_type):
                    self._check(key)
                    whole.append(Put(root + key, raw, ttl, content_type))
                case Delete(key, prefix):
                    self._check(key, prefix)
                    whole.append(Delete(root + key, prefix))
                case Check(key, revision):
                    self._check(key)
                    whole.append(Check(root + key, revision))
        try:
            committed = await self._source.commit(whole, reply=reply)
        except Conflict as conflict:
            raise Conflict(conflict.key.removeprefix(root), conflict.expected) from None
        return self._cut(committed)

    def _cut(self, committed: Committed) -> Committed:
        """What was committed, by the names that the keys have below the root."""
        if committed.by_key:
            by_key = {key.removeprefix(self._root): at for key, at in committed.by_key.items()}
            committed = msgspec.structs.replace(committed, by_key=by_key)
        match committed.result:
            case None:
                return committed
            case Result() as result:
                return msgspec.structs.replace(committed, result=self._cut_keys(result))
            case future:
                return msgspec.structs.replace(committed, result=handed_on(future, self._cut_keys))

    def _check(self, key: str, prefix: bool = False) -> None:
        """Raise `BadKey` or `BadPrefix` for what has no name below the root: a
        server may have let it through."""
        if key[:1] in _NAMELESS:
            (check_prefix if prefix else check_key)(key, rooted=True)

    def _skip(self, key: str) -> None:
        """Say once that the store holds a key, named in whole, that has no name below the root."""
        why = (
            f"it has no name below {self._root!r}; rename it, or delete it with: datasync del --raw"
        )
        self._skipped.report(key.encode(), self.name, why)

    def _cut_keys(self, result: Result) -> Result:
        return result.renamed(lambda key: key.removeprefix(self._root))

    async def get(self, key: str) -> tuple[bytes, int] | None:
        self._check(key)
        return await self._source.get(self._root + key)

    async def page(
        self, prefix: str, token: Any | None, limit: int, *, keys_only: bool = False
    ) -> tuple[Sequence[Item], Any | None]:
        items, following = await self._source.page(
            self._root + prefix, token, limit, keys_only=keys_only
        )
        return _cut_items(items, len(self._root), self._skip), following

    async def diagnose(self, key: str) -> Sequence[Finding]:
        return await self._source.diagnose(self._root + key)

    async def replace(self, items: Iterable[tuple[str, bytes]]) -> Committed:
        def whole() -> Iterator[tuple[str, bytes]]:
            for key, raw in items:
                self._check(key)
                yield self._root + key, raw

        return self._cut(await self._source.replace(whole()))


Cut = Callable[[Sequence[Frame]], Sequence[Frame]]
Skip = Callable[[str], None]


def _cut_items(items: Sequence[Item], at: int, skip: Skip) -> Sequence[Item]:
    """The items that have a name after the first `at` letters of their keys, by that name."""
    cut = [
        (key[at:], raw, revision)
        for key, raw, revision in items
        if key[at : at + 1] not in _NAMELESS
    ]
    if len(cut) < len(items):
        _skip_all((key for key, _, _ in items), at, skip)
    return cut


def _skip_all(keys: Iterable[str], at: int, skip: Skip) -> None:
    for key in keys:
        if key[at : at + 1] in _NAMELESS:
            skip(key)


def _cutter(root: str, skip: Skip) -> Cut:
    at = len(root)

    def whole(reply: Reply | None) -> Reply | None:
        """The publisher hears of the keys by the names that it gave them."""
        if reply is None:
            return None
        return lambda result: reply(result.renamed(lambda key: root + key))

    def cut(frames: Sequence[Frame]) -> Sequence[Frame]:
        return [one(frame) for frame in frames]

    def one(frame: Frame) -> Frame:
        match frame:
            case Commit(position, revision, changes, reply, final):
                # also where nothing is left: somebody may wait for this revision, or for the reply
                ours = [
                    (key[at:], raw) for key, raw in changes if key[at : at + 1] not in _NAMELESS
                ]
                if len(ours) < len(changes):
                    _skip_all((key for key, raw in changes if raw is not None), at, skip)
                return Commit(position, revision, ours, whole(reply), final)
            case SnapshotChunk(items):
                return SnapshotChunk(_cut_items(items, at, skip))
            case SnapshotBegin(scopes):
                return SnapshotBegin([scope[at:] for scope in scopes])
            case SnapshotEnd(reply=reply):
                return msgspec.structs.replace(frame, reply=whole(reply))
            case _:
                return frame

    return cut


class _RootedSession(ForwardingSession):
    def __init__(self, session: Session, root: str, skip: Skip) -> None:
        super().__init__(session, _cutter(root, skip))
        self._root = root


class _RootedPush(_RootedSession, ForwardingPush):
    def widen(self, scopes: Sequence[str], added: Sequence[str]) -> None:
        root = self._root
        super().widen([root + scope for scope in scopes], [root + scope for scope in added])
