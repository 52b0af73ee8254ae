"""A source that one program has no more, while others still have it."""

from __future__ import annotations

from collections.abc import Sequence

from datasync.errors import Disconnected, OutcomeUnknown
from datasync.forwarding import ForwardingSource
from datasync.source import Committed, Operation

__all__ = ["MutedSource"]


class MutedSource(ForwardingSource):
    """It takes no writes for as long as it is mute, as of a program that has died."""

    mute = False
    _left: int | None = None

    def mute_behind(self, commits: int) -> None:
        """Become mute after that many more commits: the last of them is done, and not
        acknowledged."""
        self._left = commits

    async def commit(self, operations: Sequence[Operation], *, reply: bool = False) -> Committed:
        if self.mute:
            raise Disconnected("it is mute")
        committed = await super().commit(operations, reply=reply)
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.mute, self._left = True, None
                raise OutcomeUnknown("it is mute by now")
        return committed
