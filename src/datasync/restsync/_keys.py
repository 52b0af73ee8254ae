"""Keys: read and write one, list and delete a prefix, replace the whole
state, commit a transaction."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from datasync.checks import check_operations, check_options, check_prefix
from datasync.errors import BadKey, Conflict
from datasync.outcome import Verdict
from datasync.restsync._bodies import Page, item_of, json_fault, read_state, read_transaction
from datasync.restsync._limits import Limits
from datasync.restsync._paths import key_of
from datasync.restsync._problems import Problem, json_of, written
from datasync.restsync._requests import (
    JSON,
    Exchange,
    Query,
    flag,
    is_said_to_be_json,
    needs_json,
    not_allowed,
    number,
)
from datasync.serving.cursors import Cursors
from datasync.source import Check, Committed, Delete, Item, Operation, Put, Result, Source
from datasync.traceparent import carrying

__all__ = ["Keys"]

_BINARY = b"application/octet-stream"
_PROTOBUF = b"application/x-protobuf"
_TEXT = b"text/plain; charset=utf-8"
_TAG = re.compile(r'"?([0-9]{1,18})"?')


class Keys:
    """What can be done with the keys of one source."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._cursors = Cursors(limits.cursor)
        self.writing = 0
        """Writes that are under way, or wait for their verdict."""

    # -- one key -----------------------------------------------------------------------------------

    async def key(self, exchange: Exchange, path: str) -> None:
        """/v1/keys/{key}"""
        key = key_of(path, self._limits.key)
        match exchange.method:
            case "PUT":
                await self._put(exchange, key)
            case "GET" | "HEAD":
                exchange.query()
                await self._get(exchange, key)
            case "DELETE":
                query = exchange.query("confirm")
                patience = self._patience(query)
                await self._write(
                    exchange, patience, [*self._condition(exchange, key), Delete(key)]
                )
            case _:
                raise not_allowed("GET, HEAD, PUT, DELETE")

    async def _put(self, exchange: Exchange, key: str) -> None:
        query = exchange.query("confirm", "ttl")
        patience = self._patience(query)
        body = await exchange.body(self._limits.value)
        if is_said_to_be_json(exchange) and (fault := json_fault(body)):
            raise Problem(
                400, "BadValue", f"the value of {key!r} is declared as JSON, but is not: {fault}"
            )
        ttl = None if query.one("ttl") is None else number(query, "ttl", 0, 1e-3, 1e9)
        await self._write(
            exchange, patience, [*self._condition(exchange, key), Put(key, body, ttl)]
        )

    async def _get(self, exchange: Exchange, key: str) -> None:
        found = await self._source.get(key)
        if found is None:
            raise Problem(404, "NoSuchKey", f"there is no key {key!r}")
        raw, revision = found
        tags = self._tag(revision)
        if tags and _names(exchange.headers.get(b"if-none-match", b""), tags[0][1]):
            await exchange.answer(304, headers=tags)
            return
        await exchange.answer(200, raw, _kind(raw, exchange.headers.get(b"accept", b"")), tags)

    def _tag(self, revision: int | None) -> tuple[tuple[bytes, bytes], ...]:
        if not revision or not self._source.capabilities.revisions:
            return ()
        return ((b"etag", b'"%d"' % revision),)

    def _condition(self, exchange: Exchange, key: str) -> list[Operation]:
        """If-Match and If-None-Match as a check."""
        if_match, if_none_match = (
            exchange.headers.get(b"if-match"),
            exchange.headers.get(b"if-none-match"),
        )
        if if_match is None and if_none_match is None:
            return []

        checks: list[Operation] = []
        if if_match is not None:
            tag = _TAG.fullmatch(if_match.decode("latin-1"))
            if tag is None:
                raise Problem(
                    400, "BadHeader", 'If-Match takes the ETag of one revision, for example "12"'
                )
            checks.append(Check(key, int(tag[1])))

        if if_none_match is not None:
            if if_none_match != b"*":
                raise Problem(
                    400,
                    "BadHeader",
                    "If-None-Match takes * where one writes: only if there is no such key",
                )
            if checks:
                raise Problem(
                    412, "Conflict", "no key is at a revision and absent", key=key, expected=0
                )
            checks.append(Check(key, 0))

        return checks

    # -- many keys ---------------------------------------------------------------------------------

    async def keys(self, exchange: Exchange) -> None:
        """/v1/keys"""
        match exchange.method:
            case "GET" | "HEAD":
                # only the text of it is kept while the client takes it
                await exchange.answer(200, json_of(await self._page(exchange)))
            case "DELETE":
                query = exchange.query("confirm", "prefix")
                prefix = query.one("prefix")
                _unconditional(exchange)
                if prefix is None:
                    raise Problem(
                        400,
                        "BadPrefix",
                        "name what is to be deleted: ?prefix=config/ (empty: everything)",
                    )
                await self._write(
                    exchange, self._patience(query), [Delete(_checked(prefix), prefix=True)]
                )
            case "PUT":
                await self._put_state(exchange)
            case _:
                raise not_allowed("GET, HEAD, PUT, DELETE")

    async def _page(self, exchange: Exchange) -> Page:
        query = exchange.query("prefix", "limit", "cursor", "values")
        prefix = _checked(query.one("prefix") or "")
        limit = int(number(query, "limit", 1000, 1, self._limits.page))
        values = flag(query, "values", True)
        cursor = query.one("cursor")
        rest, token = ([], None) if cursor is None else self._come_back(cursor, (prefix, values))
        if not rest:
            found, token = await self._source.page(prefix, token, limit, keys_only=not values)
            rest = found
        shown = _fitting(rest, limit, self._limits.page_bytes)
        items = [
            item_of(key, raw if values else None, revision) for key, raw, revision in rest[:shown]
        ]
        following = None
        if shown < len(rest) or token is not None:
            following = self._cursors.keep((prefix, values), rest[shown:], token)
        return Page(items, following)

    def _come_back(self, name: str, what: object) -> tuple[Sequence[Item], Any]:
        """What a cursor stands for. Raises `Problem`."""
        cursor = self._cursors.take(name)
        if cursor is None:
            raise Problem(
                410, "CursorGone", "the cursor is used, or too old; list again from the start"
            )
        if cursor.what != what:
            raise Problem(
                400, "BadQuery", "the cursor belongs to another prefix; list again from the start"
            )
        return cursor.rest, cursor.token

    async def _put_state(self, exchange: Exchange) -> None:
        patience = self._patience(exchange.query("confirm"))
        needs_json(exchange)
        _unconditional(exchange)
        items = await read_state(await exchange.body(self._limits.state), self._limits)
        self._begin()
        try:
            with _trace(exchange):
                committed = await self._source.replace(items)
            await self._told(exchange, patience, committed)
        finally:
            self.writing -= 1

    async def transaction(self, exchange: Exchange) -> None:
        """POST /v1/transactions"""
        if exchange.method != "POST":
            raise not_allowed("POST")
        patience = self._patience(exchange.query("confirm"))
        needs_json(exchange)
        _unconditional(exchange)
        operations = read_transaction(await exchange.body(self._limits.state), self._limits)
        try:
            check_operations(operations)
        except BadKey as error:  # each of them is right, only not beside the other
            raise Problem(409, "BadKey", str(error)) from None
        await self._write(exchange, patience, operations)

    # -- writing -----------------------------------------------------------------------------------

    async def _write(
        self, exchange: Exchange, patience: float | None, operations: Sequence[Operation]
    ) -> None:
        """Commit, wait for the verdict, and answer with it."""
        check_options(self._source, operations)
        self._begin()
        try:
            with _trace(exchange):
                committed = await self._source.commit(
                    operations,
                    reply=patience is not None
                    and (self._source.capabilities.reply or self._source.forwards_verdicts),
                )
            await self._told(exchange, patience, committed)
        except Conflict as conflict:
            if b"if-match" in exchange.headers or b"if-none-match" in exchange.headers:
                raise Problem(
                    412, "Conflict", str(conflict), key=conflict.key, expected=conflict.expected
                ) from None
            raise
        finally:
            self.writing -= 1

    def _begin(self) -> None:
        """Take a place among the writes. Raises `Problem` where there are too many."""
        if self.writing >= self._limits.writes:
            raise Problem(
                429, "TooManyWrites",
                f"{self.writing:,} writes are waiting already; try again later",
                ((b"retry-after", b"1"),),
            )  # fmt: skip
        self.writing += 1

    async def _told(self, exchange: Exchange, patience: float | None, committed: Committed) -> None:
        """Answer with what was committed, and the verdict if it comes in time."""
        result = committed.result
        if patience is None:
            result = None
        elif result is not None and not isinstance(result, Result):
            try:
                async with asyncio.timeout(patience):
                    result = await result
            except TimeoutError:
                result = Result(Verdict.OVERDUE)
        answer = written(committed.revision, result, list(committed.existed))
        tags = self._tag(committed.revision) if exchange.method == "PUT" else ()
        await exchange.answer_json(answer, answer.status, tags)

    def _patience(self, query: Query) -> float | None:
        """How many seconds to wait for the verdict; None where the client does not want it."""
        given = query.one("confirm")
        if given in ("false", "0"):
            return None
        if given in (None, "true"):
            return self._limits.verdict_time
        return number(query, "confirm", 0, 0.001, self._limits.verdict_time)


def _trace(exchange: Exchange) -> AbstractContextManager[None]:
    """The trace that the client says its write belongs to."""
    return carrying(exchange.headers.get(b"traceparent", b"").decode("latin-1"))


def _checked(prefix: str) -> str:
    check_prefix(prefix)
    return prefix


def _names(header: bytes, tag: bytes) -> bool:
    """Whether If-None-Match of a read names the ETag."""
    return header == b"*" or tag in (one.strip().removeprefix(b"W/") for one in header.split(b","))


def _unconditional(exchange: Exchange) -> None:
    """Raise `Problem` for conditions where many keys are written, instead of
    leaving them out of account."""
    if b"if-match" in exchange.headers or b"if-none-match" in exchange.headers:
        raise Problem(
            400, "BadHeader", "a condition is about one key; in a transaction it is a check"
        )


def _fitting(items: Sequence[Item], limit: int, size: int) -> int:
    """How many items go into an answer: at least one."""
    for index, (_, raw, _) in enumerate(items[:limit]):
        size -= len(raw)
        if size < 0 and index:
            return index
    return min(limit, len(items))


def _kind(raw: bytes, accept: bytes) -> bytes:
    """The content type of a value: what the client asks for, or what it looks like."""
    for kind in (_PROTOBUF, _BINARY):
        if kind in accept:
            return kind
    if json_fault(raw) is None:
        return JSON
    try:
        raw.decode()
    except UnicodeDecodeError:
        return _BINARY
    return _TEXT
