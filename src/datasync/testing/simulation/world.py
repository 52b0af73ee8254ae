"""The application of a simulation: handlers and readers that do whatever
handlers and readers may do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from datasync.errors import (
    DecodeError,
    Failed,
    Outcomes,
    Pending,
    Refused,
    Retry,
    Said,
    WatchClosed,
)
from datasync.events import ChangeEvent, Event, ResyncEvent
from datasync.outcome import Accepted
from datasync.scopes import Scopes
from datasync.sync import DataSync
from datasync.testing.trace.recorder import RecordedStream, Recorder
from datasync.watch import Watch

__all__ = ["BAD", "Actor", "HandlerActor", "StreamActor", "Stray", "unexpected"]

BAD = b"!"
"""Values that start with it do not decode, say the handlers."""


class Stray(BaseException):
    """What nobody expects of a handler, a source or a session."""


def unexpected(rng: random.Random, where: str) -> BaseException:
    """An error that nothing in the engine knows."""
    return rng.choice([RuntimeError, KeyError, Stray])(f"unexpected: {where}")


class Actor:
    """One watch and what it does with its events; once `good`, it accepts
    all it can decode, at once.

    opens: draws of which events it leaves keys open; None: of none. again: writes a key as it is.
    """

    def __init__(
        self,
        sync: DataSync,
        recorder: Recorder,
        rng: random.Random,
        name: str,
        scopes: Sequence[str],
        *,
        after: Sequence[str] = (),
        backlog: int = 4,
        ack_timeout: float = 1.0,
        resync_timeout: float = 3.0,
        trouble: float = 0.4,
        edits: bool = False,
        opens: random.Random | None = None,
        act: Callable[[], None] = lambda: None,
        again: Callable[[str], None] = lambda key: None,
    ) -> None:
        self.name = name
        self.scopes = list(scopes)
        self.open = True
        self._sync = sync
        self._recorder = recorder
        self._rng = rng
        self._after = after
        self._backlog = backlog
        self._ack_timeout = ack_timeout
        self._resync_timeout = resync_timeout
        self._trouble = trouble
        self._edits = edits
        self._opens = opens
        self._type: type[Any] = dict if edits else bytes
        self._act = act
        self._again = again
        self._good = asyncio.Event()

    @property
    def prefixes(self) -> list[str]:
        """Its prefixes, without the single keys."""
        return [scope for scope in self.scopes if not scope or scope.endswith("/")]

    @property
    def watch(self) -> Watch[Any]:
        """The watch, also that of a handler."""
        return self._sync._watches[self.name]

    def widen(self, prefix: str) -> None:
        """Watch one more prefix."""
        self.scopes.append(prefix)
        self._recorder.scoped(self.name, self.scopes)
        self.watch.add_prefix(prefix)

    def narrow(self, prefix: str) -> None:
        """Watch one prefix less."""
        self.scopes.remove(prefix)
        self._recorder.scoped(self.name, self.scopes)
        self.watch.remove_prefix(prefix)

    def close(self) -> None:
        """Close the watch."""
        self.open = False
        self._recorder.closed(self.name)
        self.watch.close()

    def heal(self) -> None:
        """From now on do what is asked, and finish what hangs."""
        self._good.set()

    async def stop(self) -> None:
        """End whatever runs."""

    def _registration(self) -> dict[str, Any]:
        return {
            "after": self._after,
            "ack_timeout": self._ack_timeout,
            "resync_timeout": self._resync_timeout,
        }

    def _keys(self) -> list[str]:
        return [scope for scope in self.scopes if scope and not scope.endswith("/")]

    async def _wait(self, longest: float) -> None:
        """Work for a while; not longer than until it has to be good."""
        try:
            async with asyncio.timeout(self._rng.random() * longest):
                await self._good.wait()
        except TimeoutError:
            pass

    async def _treat(self, event: Event[Any]) -> BaseException | None:
        """Do something with the event; returns what to report. It may have been deferred, too."""
        if self._edits:
            self._edit(event)
        wrong = _undecodable(event)
        if wrong is not None and (self._good.is_set() or self._rng.random() < 0.7):
            return DecodeError(wrong, "it starts with the wrong byte")

        if self._good.is_set():
            return None
        if self._rng.random() > self._trouble:
            return None if self._opens is None else self._open_some(event, self._opens)

        rng = self._rng
        match rng.randrange(14):
            case 0 | 1:
                await self._wait(0.3)
            case 2:
                is_change = isinstance(event, ChangeEvent)
                timeout = self._ack_timeout if is_change else self._resync_timeout
                await self._wait(2.5 * timeout)
            case 3:
                await self._good.wait()

            case 4:
                return unexpected(rng, "cannot apply this")
            case 5:
                await self._wait(0.2)
                return unexpected(rng, "cannot apply this after all")

            case 6:
                return Retry("not now", after=rng.choice([0.0, 0.05, 0.7]))
            case 7 | 8:
                return self._refusal(event)
            case 9:
                return Refused({"no/such/key": "foreign"})
            case 12 | 13:
                self._act()
            case _:
                self._defer(event)
                if rng.random() < 0.3:
                    await self._wait(0.2)
        return None

    def _edit(self, event: Event[Any]) -> None:
        """Read all values, and take them apart, as handlers do with what they are given."""
        found: list[Any] = [
            *event.changes,
            *(change.prev for change in event.changes if change.prev is not None),
        ]
        if isinstance(event, ResyncEvent):
            found += [kv for values in event.values.values() for kv in values]
        for pair in found:
            if pair.raw is not None and not pair.raw.startswith(BAD):
                self._recorder.read(self.name, pair.key, pair.raw, msgspec.json.encode(pair.value))
                pair.value.clear()

    def _refusal(self, event: Event[Any]) -> BaseException:
        keys = sorted({change.key for change in event.changes} | {key for key, _ in _pairs(event)})
        if not keys:
            return RuntimeError("nothing to refuse")
        chosen = self._rng.sample(keys, self._rng.randint(1, min(2, len(keys))))
        if event.changes and self._rng.random() < 0.7:
            # what was written last has somebody who waits for its verdict
            chosen.append(max(event.changes, key=lambda change: change.revision).key)
        return Refused(dict.fromkeys(chosen, f"{self.name} does not like it"))

    def _open_some(self, event: Event[Any], rng: random.Random) -> BaseException | None:
        """Apply some keys of the event later, and say so; now and then of keys that it has not."""
        keys = sorted({change.key for change in event.changes} | {key for key, _ in _pairs(event)})
        if not keys or rng.random() < 0.3:
            return None
        chosen = rng.sample(keys, rng.randint(1, min(3, len(keys))))
        for _ in range(rng.choice([0, 1, 1, 2])):
            late = rng.choice([0.0, 0.0, 0.05, 0.3, 1.5])
            asyncio.get_running_loop().call_later(late, self._report_later, chosen, rng)
        if rng.random() < 0.5:
            late = rng.choice([0.0, 0.0, 0.02, 0.1])
            asyncio.get_running_loop().call_later(late, self._again, rng.choice(chosen))
        if rng.random() < 0.1:
            return Pending("all of it waits")
        if rng.random() < 0.03:
            chosen = ["no/such/key"]
        return Outcomes({key: self._outcome(rng) for key in chosen})

    def _outcome(self, rng: random.Random) -> Said:
        number = rng.randrange(1000)
        outcomes: list[Said] = [
            Pending(f"{self.name} waits, {number}"),
            Failed(f"{self.name} failed, {number}"),
            Refused(f"{self.name} does not like it, {number}"),
            Accepted(),
        ]
        return rng.choice(outcomes)

    def _report_later(self, keys: Sequence[str], rng: random.Random) -> None:
        watched = [key for key in keys if key in Scopes(self.scopes)]
        if self.open and watched:
            said = {key: self._outcome(rng) for key in watched}
            self._recorder.keys_reported(self.name, said)
            self.watch.report(said)

    def _defer(self, event: Event[Any]) -> None:
        event.defer()
        rng, loop = self._rng, asyncio.get_running_loop()
        errors: list[BaseException | None] = [
            None,
            None,
            RuntimeError("failed later"),
            self._refusal(event),
        ]
        error = rng.choice(errors)
        late = rng.choice([0.0, 0.1, 0.5, 1.5])
        loop.call_later(late, event.done, error)
        if rng.random() < 0.3:  # doubled reports are harmless
            loop.call_later(
                late + rng.random(), event.done, rng.choice([None, RuntimeError("said twice")])
            )


class HandlerActor(Actor):
    """A watch with a handler."""

    def register(self) -> None:
        """Register it."""
        handler = self._recorder.wrap(
            self._handle, *self.scopes, name=self.name, **self._registration()
        )
        register = self._sync.watcher(
            *self.prefixes,
            keys=self._keys(),
            name=self.name,
            type=self._type,
            backlog=self._backlog,
            **self._registration(),
        )
        register(handler)

    async def _handle(self, event: Event[Any]) -> None:
        error = await self._treat(event)
        if error is not None:
            raise error


class StreamActor(Actor):
    """A watch that is iterated, by a reader who comes and goes; or `unread`, by nobody."""

    unread = False
    _stream: RecordedStream | None = None
    _reader: asyncio.Task[None] | None = None

    def register(self) -> None:
        """Register it; a reader comes with `read`."""
        watch = self._sync.watch(
            self.name,
            *self.prefixes,
            keys=self._keys(),
            type=self._type,
            backlog=self._backlog,
            **self._registration(),
        )
        self._stream = self._recorder.stream(watch, *self.scopes, **self._registration())

    def read(self) -> None:
        """Let somebody read, unless somebody does."""
        if not self.unread and self.open and (self._reader is None or self._reader.done()):
            self._reader = asyncio.get_running_loop().create_task(
                self._read(), name=f"reader of {self.name}"
            )

    def leave(self) -> None:
        """The reader goes away, whatever it is doing."""
        if self._reader is not None:
            self._reader.cancel()

    def heal(self) -> None:
        super().heal()
        self.read()

    async def stop(self) -> None:
        self.leave()
        if self._reader is not None:
            await asyncio.wait([self._reader])

    async def _read(self) -> None:
        assert self._stream is not None
        try:
            async for event in self._stream:
                error = await self._treat(event)
                if error is not None:
                    event.done(error)
                elif not self._good.is_set() and self._rng.random() < 0.1:
                    return  # and leaves it open
                elif self._rng.random() < 0.3 and not event._deferred:
                    event.done()
        except WatchClosed:
            pass


def _pairs(event: Event[Any]) -> list[tuple[str, bytes]]:
    if isinstance(event, ResyncEvent):
        return [(kv.key, kv.raw) for items in event.values.values() for kv in items]
    return [(change.key, change.raw) for change in event.changes if change.raw is not None]


def _undecodable(event: Event[Any]) -> str | None:
    return next((key for key, raw in _pairs(event) if raw.startswith(BAD)), None)
