"""Operations as commands of Redis, and what their replies mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from datasync.errors import BadValue, OutcomeUnknown, UnsupportedOption
from datasync.kvdbsync import _redis_errors as errors
from datasync.kvdbsync._redis_keys import pattern_of
from datasync.kvdbsync._redis_link import Command, ReplyError
from datasync.source import Committed, Delete, Operation, Put

__all__ = ["Plan"]

_LONGEST = 10**15
"""Milliseconds; the server adds them to the time of day in 63 bits."""
# Nothing else runs in between, so a prefix is deleted as it stands at one moment
_DELETE_PREFIX = """
local cursor, deleted = '0', 0
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    deleted = deleted + redis.call('UNLINK', key)
  end
until cursor == '0'
return deleted
"""


class Plan:
    """The commands that do all operations at once."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = operations
        single = [_command(operation) for operation in operations]
        self.commands = single if len(single) == 1 else [("MULTI",), *single, ("EXEC",)]

    def refusal(self, replies: Sequence[Any]) -> ReplyError | None:
        """The error because of which nothing was done."""
        queued = replies if len(self.operations) == 1 else replies[:-1]
        error = next((reply for reply in queued if isinstance(reply, ReplyError)), None)
        return error or (replies[-1] if isinstance(replies[-1], ReplyError) else None)

    def committed(self, replies: Sequence[Any], address: str) -> Committed:
        """What was done. Raises `OutcomeUnknown`, or what `_redis_errors.of_reply` makes of a refusal."""
        refusal = self.refusal(replies)
        if refusal is not None:
            raise errors.of_reply(refusal, address)
        results = replies if len(self.operations) == 1 else replies[-1]
        for result in results:
            if isinstance(result, ReplyError):  # in the midst of a transaction, which Redis does not undo
                raise OutcomeUnknown(f"{address}: {result}; read the keys to see which were written")
        deleted = [
            result > 0
            for operation, result in zip(self.operations, results, strict=True)
            if isinstance(operation, Delete)
        ]
        return Committed(None, deleted)


def _command(operation: Operation) -> Command:
    if isinstance(operation, Put):
        if operation.ttl is None:
            return ("SET", operation.key, operation.raw)
        return ("SET", operation.key, operation.raw, "PX", _milliseconds(operation.key, operation.ttl))
    if isinstance(operation, Delete):
        if operation.prefix:
            return ("EVAL", _DELETE_PREFIX, 0, pattern_of(operation.key))
        return ("UNLINK", operation.key)
    raise UnsupportedOption(f"Redis has no revisions (for {operation.key!r}); leave if_revision out")


def _milliseconds(key: str, ttl: float) -> int:
    milliseconds = math.ceil(ttl * 1000)
    if milliseconds > _LONGEST:
        raise BadValue(f"the ttl of {key!r} is longer than Redis takes; it is at most {_LONGEST // 1000} seconds")
    return milliseconds
