"""Validation of keys, prefixes and operations, whether they come from this
process or a remote one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from datasync.capabilities import Capabilities
from datasync.errors import BadKey, BadPrefix, UnsupportedOption, UsageError
from datasync.scopes import Scopes, is_prefix
from datasync.source import Check, Delete, Operation, Put, Source

__all__ = [
    "check_key",
    "check_operations",
    "check_options",
    "check_prefix",
    "is_utf8",
    "names_of",
    "read_only",
    "takes_everything",
]


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold `text`: it has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def names_of(given: str | Iterable[str], option: str) -> list[str]:
    """What an option names, be it one or several. Raises `UsageError` for what is no list."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Iterable):
        raise UsageError(f"{option} takes a name or a list of names, got {given!r}")
    return list(given)


def check_key(key: str, rooted: bool) -> None:
    """Raise `BadKey` unless `key` can name a value."""
    if not isinstance(key, str):
        raise BadKey(
            f"a key is text, not {type(key).__name__}; write for example 'config/interface/eth0'"
        )
    if not key:
        raise BadKey("a key is not empty; name what is to be stored")
    if rooted and key[0] == "/":
        raise BadKey(f"the key {key!r} starts with '/' below a prefix; write {key.lstrip('/')!r}")
    if not key.isascii() and not is_utf8(key):  # the hot path
        raise BadKey(
            f"the key {key!r} holds half a surrogate pair; a key is text that UTF-8 can hold"
        )


def check_prefix(prefix: str, rooted: bool = False) -> None:
    """Raise `BadPrefix` unless `prefix` is empty or ends in a slash; where
    `rooted`, it may not start with one."""
    if not isinstance(prefix, str):
        raise BadPrefix(
            f"a prefix is text, not {type(prefix).__name__}; write for example 'config/interface/'"
        )
    if not is_prefix(prefix):
        raise BadPrefix(
            f"the prefix {prefix!r} would match its neighbours too; write {prefix + '/'!r}"
        )
    if rooted and prefix.startswith("/"):
        raise BadPrefix(
            f"the prefix {prefix!r} starts with '/' below a prefix; write {prefix.lstrip('/')!r}"
        )
    if not is_utf8(prefix):
        raise BadPrefix(
            f"the prefix {prefix!r} holds half a surrogate pair; a prefix is text that UTF-8 "
            "can hold"
        )


def takes_everything(can: Capabilities) -> bool:
    """Whether no operation can ask for more than a source with these capabilities has."""
    return can.writable and can.ttl and can.cas and can.transactions


def read_only(source: Source) -> UnsupportedOption:
    """The error of a write to a source that takes none."""
    return UnsupportedOption(f"{source.name} takes no writes; {source.instead_of_writing}")


def check_options(source: Source, operations: Sequence[Operation]) -> None:
    """Raise `UnsupportedOption` where the source lacks what the operations ask for."""
    can = source.capabilities
    if takes_everything(can):
        return
    if not can.writable:
        raise read_only(source)

    writes = 0
    for operation in operations:
        if type(operation) is Put:
            writes += 1
            if operation.ttl is not None and not can.ttl:
                raise UnsupportedOption(
                    f"{source.name} has no ttl (for {operation.key!r}); delete the key yourself"
                )
        elif type(operation) is Check:
            if not can.cas:
                raise UnsupportedOption(
                    f"{source.name} has no if_revision (for {operation.key!r}); leave it out"
                )
        else:
            writes += 1

    if writes > 1 and not can.transactions:
        raise UnsupportedOption(f"{source.name} has no transactions; write the keys one by one")


def check_operations(operations: Sequence[Operation]) -> None:
    """Raise `BadKey` where two operations write the same key, or one writes below a
    prefix that another deletes."""
    writes = [operation for operation in operations if type(operation) is not Check]
    if len({operation.key for operation in writes}) < len(writes):
        written = set()
        for operation in writes:
            if operation.key in written:
                raise BadKey(
                    f"{operation.key!r} is written twice in one transaction; keep the write that "
                    "is meant"
                )
            written.add(operation.key)

    deleted = [
        operation.key for operation in writes if type(operation) is Delete and operation.prefix
    ]
    if not deleted:
        return

    prefixes = Scopes(deleted)
    for item in writes:
        if item.key in prefixes and not (type(item) is Delete and item.prefix):
            raise BadKey(
                f"{item.key!r} lies under a prefix that the same transaction deletes; delete the "
                "other keys by name"
            )
