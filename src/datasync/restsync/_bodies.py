"""Bodies of JSON: items, whole states and transactions, in both directions.

A value is bytes: `value_base64`, or `value`, where a text stands for its UTF-8 bytes, and any other
JSON for its own text, as it was sent. The answers use `value` for what is UTF-8, always as a text,
and `value_base64` for all else.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from datasync.checks import check_key, check_prefix
from datasync.codec.shared import UNDECODABLE
from datasync.errors import BadKey
from datasync.restsync._limits import Limits
from datasync.restsync._problems import Problem
from datasync.source import Check, Delete, Operation, Put

__all__ = [
    "Item",
    "Page",
    "decode",
    "item_of",
    "json_fault",
    "operations_of",
    "read_state",
    "read_transaction",
    "value_fields",
]


T = TypeVar("T")

_AT_ONCE = 1000
"""Items of a state that are read while all else waits."""


class _Valued(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    value_base64: str | msgspec.UnsetType = msgspec.UNSET

    def raw(self, limits: Limits) -> bytes:
        if (self.value is msgspec.UNSET) is (self.value_base64 is msgspec.UNSET):
            raise Problem(400, "BadValue", f"{self.key!r} needs either value or value_base64")
        if isinstance(self.value_base64, str):
            try:
                raw = base64.b64decode(self.value_base64, validate=True)
            except (binascii.Error, ValueError):
                raise Problem(
                    400, "BadValue", f"value_base64 of {self.key!r} is not base64"
                ) from None
        else:
            raw = bytes(self.value)  # type: ignore[arg-type]
            if raw[:1] == b'"':
                raw = msgspec.json.decode(raw, type=str).encode()
        if len(raw) > limits.value:
            raise Problem(
                413, "TooLarge", f"the value of {self.key!r} is larger than {limits.value:,} bytes"
            )
        return raw


class _Put(_Valued, tag="put", tag_field="op"):
    ttl: float | None = None


class _Delete(msgspec.Struct, tag="delete", tag_field="op", forbid_unknown_fields=True):
    key: str
    prefix: bool = False


class _Check(msgspec.Struct, tag="check", tag_field="op", forbid_unknown_fields=True):
    key: str
    revision: int | float  # 3.0 is an integer too, says JSON Schema


class _Transaction(msgspec.Struct, forbid_unknown_fields=True):
    operations: list[_Put | _Delete | _Check]


class _State(msgspec.Struct, forbid_unknown_fields=True):
    items: list[_Valued]


_transactions = msgspec.json.Decoder(_Transaction)
_states = msgspec.json.Decoder(_State)


async def read_state(body: bytes, limits: Limits) -> list[tuple[str, bytes]]:
    """The items of a whole state; of two with the same key the later one
    counts. Raises `Problem`."""
    items = decode(_states, body).items
    if len(items) > limits.keys:
        raise Problem(413, "TooLarge", f"a state holds at most {limits.keys:,} keys here")

    read: list[tuple[str, bytes]] = []
    for start in range(0, len(items), _AT_ONCE):
        for item in items[start : start + _AT_ONCE]:
            _check_key(item.key, limits)
            read.append((item.key, item.raw(limits)))
        await asyncio.sleep(0)  # others have their turn
    return read


def read_transaction(body: bytes, limits: Limits) -> list[Operation]:
    """The operations of a transaction. Raises `Problem`."""
    wanted = decode(_transactions, body).operations
    if len(wanted) > limits.operations:
        raise Problem(
            413, "TooLarge", f"a transaction holds at most {limits.operations:,} operations here"
        )

    operations: list[Operation] = []
    for one in wanted:
        if isinstance(one, _Delete) and one.prefix:
            check_prefix(one.key)
        else:
            _check_key(one.key, limits)

        if isinstance(one, _Put):
            if one.ttl is not None and not 0 < one.ttl < 1e9:
                raise Problem(
                    400,
                    "BadValue",
                    f"the ttl of {one.key!r} must be a positive number of seconds below "
                    f"1,000,000,000 here, got {one.ttl!r}",
                )
            operations.append(Put(one.key, one.raw(limits), one.ttl))
        elif isinstance(one, _Delete):
            operations.append(Delete(one.key, one.prefix))
        else:
            if not 0 <= one.revision < 2**63 or one.revision != int(one.revision):
                raise Problem(
                    400, "BadValue", f"the revision of {one.key!r} is one, or 0 for absent"
                )
            operations.append(Check(one.key, int(one.revision)))

    return operations


def json_fault(raw: bytes) -> str | None:
    """What keeps bytes from being JSON, which is UTF-8 too; None where nothing does."""
    try:
        raw.decode()
        msgspec.json.decode(raw, type=msgspec.Raw)
    except UNDECODABLE as error:
        return str(error)
    return None


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """What a body of JSON says. Raises `Problem`."""
    try:
        body.decode()  # the decoder passes over what it leaves raw
        return decoder.decode(body)
    except UNDECODABLE as error:
        raise Problem(400, "BadBody", f"the body is not what is expected here: {error}") from None


def _check_key(key: str, limits: Limits) -> None:
    try:
        check_key(key, rooted=False)
    except BadKey as error:
        raise Problem(400, "BadKey", str(error)) from None
    if len(key.encode()) > limits.key:
        raise Problem(400, "BadKey", f"a key is at most {limits.key:,} bytes long here")


def operations_of(operations: Sequence[Operation]) -> dict[str, Any]:
    """A transaction as `read_transaction` takes it."""
    return {"operations": [_operation(operation) for operation in operations]}


def _operation(operation: Operation) -> dict[str, Any]:
    match operation:
        case Put(key, raw, ttl):
            fields: dict[str, Any] = {"op": "put", "key": key, **value_fields("value", raw)}
            return fields if ttl is None else fields | {"ttl": ttl}
        case Delete(key, prefix):
            return {"op": "delete", "key": key, "prefix": prefix}
        case Check(key, revision):
            return {"op": "check", "key": key, "revision": revision}


def value_fields(name: str, raw: bytes) -> Mapping[str, str]:
    """Bytes as a member of a JSON object."""
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {name + "_base64": base64.b64encode(raw).decode()}


class Item(msgspec.Struct, omit_defaults=True):
    """A key as the server tells it; without a value where only keys were asked for."""

    key: str
    revision: int = 0
    value: str | None = None
    value_base64: str | None = None

    @property
    def raw(self) -> bytes:
        """Its bytes."""
        if self.value is not None:
            return self.value.encode()
        return b"" if self.value_base64 is None else base64.b64decode(self.value_base64)


def item_of(key: str, raw: bytes | None, revision: int) -> Item:
    """A key as it is told; None as value: only the key."""
    item = Item(key, revision)
    if raw is not None:
        try:
            item.value = raw.decode()
        except UnicodeDecodeError:
            item.value_base64 = base64.b64encode(raw).decode()
    return item


class Page(msgspec.Struct):
    """Some keys of a prefix, and where the next page is."""

    items: list[Item]
    next: str | None = None
