"""Reading page by page, and writing what need not be done together, in as few transactions as the
source takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from datasync.errors import UnsupportedOption
from datasync.reading import pages_of
from datasync.source import Item, Operation, Source

__all__ = ["TOGETHER", "read_in_portions", "write_in_portions"]

TOGETHER = 100
"""Operations in one transaction, at most."""


async def read_in_portions(source: Source, prefix: str, *, keys_only: bool = False) -> list[Item]:
    """All that lies below a prefix. Raises what a page raises."""
    pages = pages_of(source, prefix, keys_only=keys_only)
    return [item async for items in pages for item in items]


async def write_in_portions(source: Source, steps: Sequence[Operation]) -> None:
    """Do them in this order. Raises what a commit raises; then any of them may have been done."""
    can = source.capabilities
    most = min(TOGETHER, can.max_operations or TOGETHER) if can.transactions else 1
    for at in range(0, len(steps), most):
        part = steps[at : at + most]
        try:
            await source.commit(part)
        except UnsupportedOption:  # of these keys: they lie in different slots of a cluster
            if len(part) == 1:
                raise
            for step in part:
                await source.commit([step])
