"""The snapshots that the watchers of a hub read: shared by all who want the same, and bounded in
sum, so that any number of watchers may want one at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from datasync.errors import Disconnected
from datasync.serving.log import Encode
from datasync.source import ROW_BYTES, Item, Scopes, SnapshotBegin, SnapshotChunk, SnapshotEnd

__all__ = ["Image", "Images"]

T = TypeVar("T")

_CHUNK = 1000
_CHUNK_BYTES = 256 << 10
"""Keys and bytes that fill a chunk of a snapshot: it is encoded in one go,
while all others wait."""
_MOST = 256 << 20
"""Bytes of all snapshots that are read at a time; a single one may be larger."""
_PATIENCE = 60.0
"""Seconds that the readers of a snapshot have where others wait for the room."""


class Image:
    """Some of the state at one position, as a snapshot that many may read, each at its own pace.

    items: in the order of their keys.
    """

    def __init__(self, seq: int, items: Sequence[Item], end: SnapshotEnd) -> None:
        self.seq = seq
        self.revision = end.revision
        self.size = 2 * sum(ROW_BYTES + len(key) + len(raw) for key, raw, _ in items)
        """Bytes that it takes, about, once it is encoded too."""
        self.since = asyncio.get_running_loop().time()
        self.readers = 0
        self.newest = True
        """It shows the state as of now."""
        self.revoked = False
        """Its readers had their time; they give up."""
        self._items = items
        self._end = end
        self._forms: dict[object, _Form[Any]] = {}

    def encoded(self, scopes: Scopes, encode: Encode[T]) -> Iterator[T]:
        """The frames of the snapshot, which is one of `scopes`; made one after another, as the
        first reader comes to them."""
        form: _Form[T] | None = self._forms.get(encode)
        if form is None:
            form = self._forms[encode] = _Form(self._items, self._end, encode)
        yield form.begin(scopes)
        number = 0
        while (frame := form.frame(number)) is not None:
            number += 1
            yield frame


class State(Protocol):
    """What images are made of."""

    def covering(self, scopes: Scopes) -> Scopes:
        """The same for all scopes in which all keys lie that there are now; else themselves."""

    def image(self, scopes: Scopes) -> Image:
        """One of these scopes as of now."""


class _Form(Generic[T]):
    """An image as one function encodes it."""

    def __init__(self, items: Sequence[Item], end: SnapshotEnd, encode: Encode[T]) -> None:
        self._items = items
        self._end = end
        self._encode = encode
        self._begun: tuple[Scopes, T] | None = None
        self._frames: list[T] = []
        """The chunks that readers have come to, and the end after the last of them."""
        self._start = 0
        self._ended = False

    def begin(self, scopes: Scopes) -> T:
        """What comes first. Only readers of the whole state may name it differently."""
        if self._begun is None or self._begun[0] != scopes:
            self._begun = scopes, self._encode(SnapshotBegin(list(scopes)))
        return self._begun[1]

    def frame(self, number: int) -> T | None:
        """A chunk, or the end; None after that."""
        if number == len(self._frames):
            if self._ended:
                return None
            self._frames.append(self._next())
        return self._frames[number]

    def _next(self) -> T:
        start = self._start
        if start == len(self._items):
            self._ended = True
            return self._encode(self._end)
        self._start = _full(self._items, start)
        return self._encode(SnapshotChunk(self._items[start : self._start]))


class _Waiting(NamedTuple):
    """Who waits for an image of the same scopes."""

    state: State
    turns: list[asyncio.Future[Image]]


class Images:
    """Those that are read, and the last one of the state as of now, which may be read again."""

    def __init__(self) -> None:
        self._held: dict[Image, Scopes] = {}
        self._size = 0
        self._newest: dict[Scopes, Image] = {}
        """Those of the state as of now."""
        self._spare: Image | None = None
        """The last of them that was read, and is not any more: those who come one behind the other
        share it."""
        self._waiting: dict[Scopes, _Waiting] = {}
        """Those that find no room yet, by what they want; who came first is first."""

    @contextlib.asynccontextmanager
    async def read(self, scopes: Scopes, state: State) -> AsyncIterator[Image]:
        """One that is as new as this call, to be read within the block.

        G9: who finds no room waits for it. All who want the same then get the same one, so that
        nobody waits for more than those who want something else, and came before. Raises
        `Disconnected` at the end.
        """
        image = self._begin(scopes, state) or await self._turn(scopes, state)
        try:
            yield image
        finally:
            self._end(image)

    def forget(self) -> None:
        """The state is another one: newcomers want that."""
        for image in self._newest.values():
            image.newest = False
        self._newest.clear()
        if self._spare is not None:
            self._drop_spare()
            self._serve()

    def close(self, why: str) -> None:
        """Nobody is served any more."""
        waiting, self._waiting = self._waiting, {}
        for group in waiting.values():
            for turn in group.turns:
                if not turn.done():
                    turn.set_exception(Disconnected(why))

    def _begin(self, scopes: Scopes, state: State) -> Image | None:
        image = self._newest.get(state.covering(scopes))
        if image is None and not self._waiting:
            image = self._made(scopes, state)
        if image is not None:
            self._take(image, 1)
        return image

    def _take(self, image: Image, readers: int) -> None:
        image.readers += readers
        if image is self._spare:
            self._spare = None

    def _end(self, image: Image) -> None:
        image.readers -= 1
        if image.readers:
            return
        if image.newest:
            self._drop_spare()
            self._spare = image
        else:
            self._drop(image)
        self._serve()

    async def _turn(self, scopes: Scopes, state: State) -> Image:
        turn: asyncio.Future[Image] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(scopes, _Waiting(state, [])).turns.append(turn)
        try:
            while not turn.done():
                await asyncio.wait((turn,), timeout=_PATIENCE)
                if not turn.done():
                    self._revoke()
            return turn.result()
        except BaseException:
            if turn.done() and turn.exception() is None:
                self._end(turn.result())
            turn.cancel()
            raise

    def _serve(self) -> None:
        """Give those who wait what they want, as far as there is room."""
        while self._waiting:
            scopes, (state, turns) = next(iter(self._waiting.items()))
            turns = [turn for turn in turns if not turn.done()]
            if turns:
                image = self._made(scopes, state)
                if image is None:
                    return
                self._take(image, len(turns))
                for turn in turns:
                    turn.set_result(image)
            del self._waiting[scopes]

    def _made(self, scopes: Scopes, state: State) -> Image | None:
        """The one of these scopes as of now; None where there is no room for it."""
        scopes = state.covering(scopes)
        image = self._newest.get(scopes)
        if image is not None:
            return image
        image = state.image(scopes)
        # G9: bounded in bytes
        if self._size + image.size > _MOST:
            self._drop_spare()
            if self._held and self._size + image.size > _MOST:
                return None
        self._held[image], self._newest[scopes] = scopes, image
        self._size += image.size
        return image

    def _drop_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            self._drop(spare)

    def _drop(self, image: Image) -> None:
        scopes = self._held.pop(image)
        self._size -= image.size
        if image.newest:
            del self._newest[scopes]

    def _revoke(self) -> None:
        """G9: a reader that is too slow begins again, after those who wait."""
        due = asyncio.get_running_loop().time() - _PATIENCE
        for image, scopes in self._held.items():
            if image.since <= due:
                image.revoked = True
                if image.newest:
                    image.newest = False
                    del self._newest[scopes]


def _full(items: Sequence[Item], start: int) -> int:
    """Where a chunk that begins at `start` ends; it holds one item at least."""
    size = 0
    for at in range(start, min(start + _CHUNK, len(items))):
        key, raw, _ = items[at]
        size += len(key) + len(raw)
        if size > _CHUNK_BYTES and at > start:
            return at
    return min(start + _CHUNK, len(items))
