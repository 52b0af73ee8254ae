"""Writes: keys and values checked, options held against the source, verdicts waited for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from datasync.checks import check_key, check_operations, check_options, takes_everything
from datasync.codec import codec_for, encode
from datasync.errors import (
    BadKey,
    BadPrefix,
    BadValue,
    NotApplied,
    OutcomeUnknown,
    PartialWrite,
    UnsupportedOption,
    UsageError,
    WatchClosed,
)
from datasync.keyspace import KeySpace
from datasync.lifetime import Lifetime
from datasync.options import Options
from datasync.outcome import Tally, Verdict
from datasync.report import Reports
from datasync.source import (
    Check,
    Committed,
    Delete,
    Operation,
    Put,
    Result,
    Scopes,
    Source,
    verdict_error,
)
from datasync.syncbase.engine import UNCONFIRMED, Engine
from datasync.syncbase.layer import Layer

if TYPE_CHECKING:
    from datasync.tracing import Tracing

__all__ = ["Txn", "Writer"]

_ACCEPTED = Verdict.ACCEPTED
_UNSENT = "closed before it was sent; nothing was done"


class Writer:
    """Writes to the chosen layers of one DataSync."""

    def __init__(
        self,
        engine: Engine,
        targets: Sequence[tuple[Source, Layer]],
        keys: KeySpace,
        options: Options,
    ) -> None:
        self._engine = engine
        self.targets = targets
        self._restricted = [
            source for source, _ in targets if not takes_everything(source.capabilities)
        ]
        self._keys = keys
        self._rooted = bool(keys.root)
        self._options = options
        self.tracing: Tracing | None = None
        self.ask: Callable[[Sequence[Operation], Reports], Awaitable[Committed]] | None = None
        """How to do them and ask agents by their reports; None once the DataSync is closed."""

    def put(self, key: str, value: object, ttl: float | None) -> Put:
        """The operation, checked. Raises `BadKey`, `BadValue`."""
        check_key(key, self._rooted)
        if ttl is not None and not _is_time(ttl):
            raise BadValue(f"the ttl of {key!r} must be a positive number of seconds, got {ttl!r}")
        if type(value) is bytes:  # the hot path
            return Put(key, value, ttl)
        if isinstance(value, bytes | bytearray | memoryview):
            return Put(key, bytes(value), ttl)
        raw, dialect = encode(key, value, self._options.codec), self._options.codec
        return Put(key, raw, ttl, codec_for(type(value), dialect).content_type)

    def delete(self, key: str, *, prefix: bool) -> Delete:
        """The operation, checked. Raises `BadKey`, `BadPrefix`."""
        if prefix and isinstance(key, str) and (not key or key.endswith("/")):
            if key.startswith("/") and self._keys.root:
                raise BadKey(
                    f"the prefix {key!r} starts with '/' below a prefix; write {key.lstrip('/')!r}"
                )
            return Delete(key, prefix=True)
        self._keys.check_key(key)
        if prefix:
            raise BadPrefix(
                f"the prefix {key!r} would delete its neighbours too; write {key + '/'!r}"
            )
        return Delete(key)

    def check(self, key: str, revision: int) -> Check:
        """The condition, checked. Raises `BadKey`, `BadValue`."""
        self._keys.check_key(key)
        if not isinstance(revision, int) or isinstance(revision, bool) or revision < 0:
            raise BadValue(
                f"if_revision of {key!r} must be a revision, or 0 for absent, got {revision!r}"
            )
        return Check(key, revision)

    def commit(
        self, operations: Sequence[Operation], confirm: bool | float | Reports
    ) -> Awaitable[Committed]:
        """Do them, and wait for what `confirm` asks for: the verdict of the watches, for at most so
        many seconds where it is a number, or that of agents.
        """
        if not self.targets:
            raise UsageError(
                "several sources and no write_to=; name the source that takes the writes"
            )
        if confirm is not False:
            self._check_confirmable(confirm)
        if self._restricted:
            for source in self._restricted:
                check_options(source, operations)
        if self.tracing is not None:
            return self._traced(self.tracing, operations, confirm)
        if type(confirm) is Reports:  # `isinstance` takes six times as long to say no
            return self._asking(operations, confirm)
        if len(self.targets) > 1:
            return self._to_all(operations, confirm)
        source, layer = self.targets[0]
        if confirm is False:
            return source.commit(operations)
        return self._confirmed(source, layer, operations, confirm)

    def _asking(self, operations: Sequence[Operation], reports: Reports) -> Awaitable[Committed]:
        if self.ask is None:
            raise WatchClosed
        return self.ask(operations, reports)

    async def _traced(
        self, tracing: Tracing, operations: Sequence[Operation], confirm: bool | float | Reports
    ) -> Committed:
        names = [layer.name for _, layer in self.targets]
        with tracing.writing(operations, names, confirm=confirm is not False) as done:
            if type(confirm) is Reports:
                committed = await self._asking(operations, confirm)
            else:
                committed = await self._to_all(operations, confirm)
            done(committed)
        return committed

    async def commit_for_others(self, operations: Sequence[Operation], reply: bool) -> Committed:
        """Do what others ask for, with the verdict in the result where they want it."""
        if not reply:
            return await self.commit(operations, False)
        try:
            committed, result = await self.commit(operations, True), Result(Verdict.ACCEPTED)
        except NotApplied as error:  # written all the same
            committed, result = Committed(error.revision), Result(error.verdict, error.outcomes)
        return msgspec.structs.replace(committed, result=result)

    def _check_confirmable(self, confirm: bool | float | Reports) -> None:
        """G10: before anything is written, for "unwatched" would be a guess: watches elsewhere may
        have applied it. Raises `UnsupportedOption`, `UsageError`.
        """
        if type(confirm) is Reports:
            if len(self.targets) > 1:
                raise UsageError(
                    "confirm=Reports(...) asks in one store, and several take the writes; name one "
                    "with write_to="
                )
            return
        if confirm is not True and not _is_time(confirm):
            raise UsageError(
                "confirm must be True, False, a positive number of seconds or Reports(...), got "
                f"{confirm!r}"
            )
        for source, _ in self.targets:
            if not (
                source.capabilities.reply or source.forwards_verdicts or self._engine.has_watches
            ):
                raise UnsupportedOption(
                    f"{source.name} carries no verdicts, and there is no watch here to ask; leave "
                    "confirm out, write where the watches are, or have the agent listen "
                    "(grpc://, rest://)"
                )

    async def _to_all(self, operations: Sequence[Operation], confirm: bool | float) -> Committed:
        done: list[str] = []
        failed: dict[str, Exception] = {}
        first: Committed | None = None
        refused: NotApplied | None = None

        for source, layer in self.targets:
            try:
                if self._engine.closed:  # G10: while it waited for the layer before this one
                    raise WatchClosed(_UNSENT)
                if confirm is False:
                    committed = await source.commit(operations)
                else:
                    committed = await self._confirmed(source, layer, operations, confirm)
            except NotApplied as error:  # written all the same
                refused = refused or error
                done.append(layer.name)
            except Exception as error:
                failed[layer.name] = error
            else:
                first = first or committed
                done.append(layer.name)

        if failed:
            if done:
                raise PartialWrite(done, failed)
            # G10: of what failed everywhere the one that may have been done counts
            errors = list(failed.values())
            raise next((error for error in errors if isinstance(error, OutcomeUnknown)), errors[0])
        if refused is not None:
            raise refused

        assert first is not None
        return first

    async def _confirmed(
        self, source: Source, layer: Layer, operations: Sequence[Operation], confirm: bool | float
    ) -> Committed:
        if layer.widening:
            self._engine.widen_now()
        if not source.capabilities.reply:
            writes = self._writes(operations)
        elif self._engine.follows(layer):
            writes = None
        else:
            # G7: the reply cannot tell of the watches that the source has not heard of yet
            known = self._writes(operations)
            writes = {key: known[key] for key in self._engine.unfollowed(layer, known)} or None

        if writes is None:
            committed = await source.commit(operations, reply=True)
            told = committed.result
            assert told is not None
            if isinstance(told, Result):
                result = told
            else:
                result = await self._in_time(told, self._deadline(confirm))
        else:
            committed, result = await self._asked(source, layer, operations, writes, confirm)
        if result.verdict is not _ACCEPTED:
            raise NotApplied(result.verdict, result.outcomes, committed.revision)
        return committed

    async def _asked(
        self,
        source: Source,
        layer: Layer,
        operations: Sequence[Operation],
        writes: Mapping[str, bytes | None],
        confirm: bool | float,
    ) -> tuple[Committed, Result]:
        """Write, and ask the watches here what they make of `writes`,
        beside those that the source asks.
        """
        with self._engine.confirming(layer, writes) as write:
            reply = source.forwards_verdicts or source.capabilities.reply
            committed = await source.commit(operations, reply=reply)
            revision, deadline = committed.revision, self._deadline(confirm)
            if not layer.revisions:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await self._engine.caught_up(layer, writes)
            if self._engine.closed:
                raise WatchClosed(UNCONFIRMED)

            verdict: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            tally = Tally((_resolver(verdict),), expected=2)
            _vote(tally, committed.result, verdict)
            by_key = committed.by_key or dict.fromkeys(writes, revision or 0)
            vain = _vain(operations, committed, writes)
            self._engine.confirm(layer, write, revision, tally.add, by_key, vain)
        return committed, await self._in_time(verdict, deadline)

    def _writes(self, operations: Sequence[Operation]) -> dict[str, bytes | None]:
        """What the keys will hold; those under a deleted prefix as far as they are known here."""
        writes: dict[str, bytes | None] = {}
        for operation in operations:
            if isinstance(operation, Put):
                writes[operation.key] = operation.raw
            elif isinstance(operation, Delete):
                known = self._engine.items(operation.key) if operation.prefix else ()
                writes.update(
                    dict.fromkeys([key for key, _ in known] if known else [operation.key])
                )
        return writes

    def _deadline(self, confirm: bool | float) -> float:
        """Until when to wait for a verdict.

        With `True` that is long enough for what is not stuck.
        """
        limit = self._engine.patience if confirm is True else float(confirm)
        return asyncio.get_running_loop().time() + limit

    async def _in_time(self, verdict: asyncio.Future[Result], deadline: float) -> Result:
        """The verdict; OVERDUE if it does not come in time."""
        if verdict.done():
            return verdict.result()
        with self._engine.awaiting(verdict):
            try:
                async with asyncio.timeout_at(deadline):
                    return await verdict
            except TimeoutError:
                return Result(Verdict.OVERDUE)


def _is_time(seconds: object) -> bool:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return False
    return 0 < seconds < float("inf")


def _vain(operations: Sequence[Operation], committed: Committed, writes: Iterable[str]) -> set[str]:
    """Those of the keys to be deleted that were not there."""
    deletes = [operation for operation in operations if type(operation) is Delete]
    missed = [
        delete for delete, existed in zip(deletes, committed.existed, strict=False) if not existed
    ]
    prefixes = Scopes(delete.key for delete in missed if delete.prefix)
    written = {operation.key for operation in operations if type(operation) is Put}
    under = (key for key in writes if key in prefixes and key not in written)
    return {delete.key for delete in missed}.union(under)


def _vote(
    tally: Tally, elsewhere: Result | asyncio.Future[Result] | None, verdict: asyncio.Future[Result]
) -> None:
    """Add what watches elsewhere made of it, now or later;
    `verdict` fails where they cannot be heard.
    """
    if elsewhere is None:
        tally.close()
    elif isinstance(elsewhere, Result):
        tally.add(elsewhere)
    else:
        elsewhere.add_done_callback(lambda done: _count(tally, done, verdict))


def _count(tally: Tally, done: asyncio.Future[Result], verdict: asyncio.Future[Result]) -> None:
    error = verdict_error(done)
    if error is None:
        tally.add(done.result())
    elif not verdict.done():  # G10: the caller is told
        verdict.set_exception(error)
        verdict.exception()  # the caller may no longer wait for it


def _resolver(future: asyncio.Future[Result]) -> Any:
    return lambda result: None if future.done() else future.set_result(result)


class Txn:
    """Writes that are done together or not at all; made by `DataSync.txn`.

    The calls can be chained.
    """

    def __init__(self, writer: Writer, life: Lifetime) -> None:
        self._writer = writer
        self._life = life
        self._operations: list[Operation] = []
        self._keys: set[str] = set()

    def put(self, key: str, value: object, *, ttl: float | None = None) -> Txn:
        """Store `value` under `key`, for `ttl` seconds where given."""
        return self._add(self._writer.put(key, value, ttl))

    def delete(self, key: str, *, prefix: bool = False) -> Txn:
        """Delete `key`, or everything under it where `prefix`."""
        return self._add(self._writer.delete(key, prefix=prefix))

    def if_revision(self, key: str, revision: int) -> Txn:
        """Do it all only if `key` is at `revision` (0: absent), else `commit` raises `Conflict`."""
        self._operations.append(self._writer.check(key, revision))
        return self

    async def commit(self, *, confirm: bool | float | Reports = False) -> int | None:
        """Do it. Returns the revision; see `DataSync.put` for `confirm` and what it raises."""
        self._life.check()
        if not self._operations:
            return None
        check_operations(self._operations)
        return (await self._writer.commit(self._operations, confirm)).revision

    def __len__(self) -> int:
        return len(self._operations)

    def _add(self, operation: Put | Delete) -> Txn:
        if operation.key in self._keys:
            raise BadKey(
                f"{operation.key!r} is written twice in one transaction; keep the write that "
                "is meant"
            )
        self._keys.add(operation.key)
        self._operations.append(operation)
        return self
