"""Operations as commands of Redis, and what their replies mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from datasync.errors import BadValue, OutcomeUnknown, UnsupportedOption
from datasync.kvdbsync.redis import errors
from datasync.kvdbsync.redis.keys import scan_pattern
from datasync.kvdbsync.redis.link import Command, Link, ReplyError
from datasync.source import Committed, Delete, Operation, Put

__all__ = ["Plan"]

_LONGEST = 10**15
"""Milliseconds; the server adds them to the time of day in 63 bits."""
# All prefixes in one scan, which goes through the whole store. Nothing else runs in between, so
# they are deleted as they stand at one moment; what is done is not undone. The tree is of the parts
# of the prefixes between the lengths that there are: each key is looked at once, as far as it
# starts like one of them, and counts for the first prefix that holds it.
_DELETE_PREFIXES = """
local lengths, known, tree, deleted = {}, {}, {}, {}
for at = 2, #ARGV do
  if not known[#ARGV[at]] then
    known[#ARGV[at]] = true
    lengths[#lengths + 1] = #ARGV[at]
  end
end
table.sort(lengths)

local function walk(text, visit)
  local node, from = tree, 1
  for _, length in ipairs(lengths) do
    if length > #text then break end
    node = visit(node, string.sub(text, from, length))
    if not node then break end
    from = length + 1
  end
  return node
end

for at = 2, #ARGV do
  local node = walk(ARGV[at], function(node, part)
    node[part] = node[part] or {}
    return node[part]
  end)
  node[0] = at - 1
  deleted[at - 1] = 0
end

local begun, cursor = false, '0'
repeat
  local page, keys, found = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000), {}, {}
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local first
    walk(key, function(node, part)
      local inner = node[part]
      if inner and inner[0] and not (first and first < inner[0]) then first = inner[0] end
      return inner
    end)
    if first then
      keys[#keys + 1] = key
      found[first] = true
    end
  end
  if #keys > 0 then
    local reply = redis.pcall('UNLINK', unpack(keys))
    if type(reply) == 'table' then
      return begun and redis.error_reply('PARTLY ' .. reply.err) or reply
    end
    begun = true
    for at in pairs(found) do deleted[at] = 1 end
  end
until cursor == '0'
return deleted
"""


class Plan:
    """The commands that do all operations at once."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = operations
        prefixes = [operation.key for operation in operations if _is_of_prefix(operation)]
        single = [_command(operation) for operation in operations if not _is_of_prefix(operation)]
        if prefixes:  # no other operation lies below one of them
            single.append(("EVAL", _DELETE_PREFIXES, 0, scan_pattern(prefixes) or "*", *prefixes))
        self._deletes_prefixes = bool(prefixes)
        self._transacts = len(single) > 1
        self.commands = [("MULTI",), *single, ("EXEC",)] if self._transacts else single

    async def tell(self, link: Link, *before: Command) -> list[Any]:
        """What the server says to the commands, which are sent at once after `before`.
        Raises as `Link.tell` does."""
        if self._transacts:
            await link.may_transact()
        return (await link.tell(*before, *self.commands))[len(before) :]

    def refusal(self, replies: Sequence[Any]) -> ReplyError | None:
        """The error because of which nothing was done."""
        failed = [reply for reply in replies if isinstance(reply, ReplyError)]
        # all that comes after a MULTI that is refused
        one_by_one = replies[0] in failed and len(failed) < len(replies)
        return (
            None if not failed or one_by_one or str(failed[0]).startswith("PARTLY") else failed[0]
        )

    def committed(self, replies: Sequence[Any], address: str) -> Committed:
        """What was done. Raises `OutcomeUnknown`, or what
        `redis.errors.of_reply` makes of a refusal."""
        refusal = self.refusal(replies)
        if refusal is not None:
            raise errors.of_reply(refusal, address)
        results = replies[-1] if self._transacts and isinstance(replies[-1], list) else replies
        for result in results:
            if isinstance(result, ReplyError):  # in the midst of several, which Redis does not undo
                raise OutcomeUnknown(
                    f"{address}: {result}; read the keys to see which were written"
                )
        done = self._by_operation(results) if self._deletes_prefixes else results
        if len(done) != len(self.operations) or not all(map(_is_answer, done, self.operations)):
            raise OutcomeUnknown(
                f"{address}: it does not answer as Redis does; read the keys to see what "
                "was written"
            )
        pairs = zip(self.operations, done, strict=True)
        return Committed(
            None, [result > 0 for operation, result in pairs if type(operation) is Delete]
        )

    def _by_operation(self, results: Sequence[Any]) -> list[Any]:
        """The results in the order of the operations; all deletes of prefixes share the last."""
        single = iter(results)
        by_prefix = iter(results[-1] if results and isinstance(results[-1], list) else ())
        return [
            next(by_prefix if _is_of_prefix(operation) else single, None)
            for operation in self.operations
        ]


def _is_answer(result: Any, operation: Operation) -> bool:
    return isinstance(result, int) if type(operation) is Delete else bool(result == b"OK")


def _is_of_prefix(operation: Operation) -> bool:
    return type(operation) is Delete and operation.prefix


def _command(operation: Operation) -> Command:
    if isinstance(operation, Put):
        if operation.ttl is None:
            return ("SET", operation.key, operation.raw)
        return (
            "SET",
            operation.key,
            operation.raw,
            "PX",
            _milliseconds(operation.key, operation.ttl),
        )
    if isinstance(operation, Delete):
        return ("UNLINK", operation.key)
    raise UnsupportedOption(
        f"Redis has no revisions (for {operation.key!r}); leave if_revision out"
    )


def _milliseconds(key: str, ttl: float) -> int:
    milliseconds = math.ceil(ttl * 1000)
    if milliseconds > _LONGEST:
        raise BadValue(
            f"the ttl of {key!r} is longer than Redis takes; it is at most "
            f"{_LONGEST // 1000} seconds"
        )
    return milliseconds
