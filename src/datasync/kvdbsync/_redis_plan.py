"""Operations as commands of Redis, and what their replies mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from datasync.errors import BadValue, OutcomeUnknown, UnsupportedOption
from datasync.kvdbsync import _redis_errors as errors
from datasync.kvdbsync._redis_keys import pattern_of
from datasync.kvdbsync._redis_link import Command, Link, ReplyError
from datasync.source import Committed, Delete, Operation, Put

__all__ = ["Plan"]

_LONGEST = 10**15
"""Milliseconds; the server adds them to the time of day in 63 bits."""
# Nothing else runs in between, so a prefix is deleted as it stands at one moment; what is done is not undone
_DELETE_PREFIX = """
local cursor, deleted = '0', 0
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = page[1]
  if #page[2] > 0 then
    local reply = redis.pcall('UNLINK', unpack(page[2]))
    if type(reply) == 'table' then
      return deleted > 0 and redis.error_reply('PARTLY ' .. reply.err) or reply
    end
    deleted = deleted + reply
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

    async def tell(self, link: Link, *before: Command) -> list[Any]:
        """What the server says to the commands, which are sent at once behind `before`. Raises as `Link.tell` does."""
        if len(self.operations) > 1:
            await link.may_transact()
        return (await link.tell(*before, *self.commands))[len(before) :]

    def refusal(self, replies: Sequence[Any]) -> ReplyError | None:
        """The error because of which nothing was done."""
        failed = [reply for reply in replies if isinstance(reply, ReplyError)]
        one_by_one = replies[0] in failed and len(failed) < len(replies)  # all that is behind a MULTI that is refused
        return None if not failed or one_by_one or str(failed[0]).startswith("PARTLY") else failed[0]

    def committed(self, replies: Sequence[Any], address: str) -> Committed:
        """What was done. Raises `OutcomeUnknown`, or what `_redis_errors.of_reply` makes of a refusal."""
        refusal = self.refusal(replies)
        if refusal is not None:
            raise errors.of_reply(refusal, address)
        results = replies[-1] if isinstance(replies[-1], list) else replies
        for result in results:
            if isinstance(result, ReplyError):  # in the midst of several, which Redis does not undo
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
