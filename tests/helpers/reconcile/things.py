"""A kind of things that need each other, some of which cannot be made."""

from __future__ import annotations

import msgspec

from datasync.reconcile import Kind, Needs

__all__ = ["Thing", "Things"]


class Thing(msgspec.Struct, frozen=True):
    needs: list[str] = []
    fails: bool = False


class Things(Kind[Thing, None]):
    async def create(self, key: str, value: Thing) -> None:
        if value.fails:
            raise OSError("no such device")

    async def delete(self, key: str, value: Thing, handle: None) -> None: ...

    def needs(self, key: str, value: Thing) -> list[Needs]:
        return [Needs.key(other) for other in value.needs]
