"""mirror: keep one source equal to another.

SRC is followed by a watch; its transactions are written to DST one by one as they come. DST is
watched as well: that tells when it was lost, restored or written to by somebody else, and what
differs then is put right. Whatever fails is reported to the engine, which brings it again with
backoff; until DST has been compared as a whole, nothing is taken for granted there.

What agents report is about the store that they follow: it is neither copied nor deleted, unless
that is asked for.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

from datasync import Capabilities, ChangeEvent, DataSync, Event, ResyncEvent, Watch, open_url
from datasync.checks import check_prefix
from datasync.cli.batches import KeyWrite, write_together
from datasync.cli.parser import Command, Positional, json_option, source_options
from datasync.cli.sources import connect, existing
from datasync.errors import UsageError
from datasync.kvdbsync.memory import MemorySource
from datasync.report import is_report
from datasync.terminal.output import Output, many, redact
from datasync.terminal.process import complain, run
from datasync.texts import printable

__all__ = ["COMMANDS"]

_BATCH = 10_000
"""Operations at most in one transaction while DST is brought in step; a
transaction of SRC is never split."""
_FEW = 100
"""Up to so many suspect keys are looked up one by one, more by a listing."""
_LOOK = 0.25
"""How often, in seconds, the connections are looked at for what is to be told."""


Shown = Callable[[bytes | None], bytes | None]
"""A value as the mirror sees it: None where it is none of its concern."""


def _all(raw: bytes | None) -> bytes | None:
    return raw


def _but_reports(raw: bytes | None) -> bytes | None:
    return None if raw is None or is_report(raw) else raw


class _Target:
    """DST as the mirror writes to it."""

    def __init__(self, sync: DataSync, under: str, can: Capabilities, shown: Shown) -> None:
        self.sync = sync
        self.shown = shown
        self._under = under
        self._transactions = can.transactions
        self._batch = min(_BATCH, can.max_operations or _BATCH)

    async def match(self, wanted: dict[str, bytes]) -> tuple[int, int]:
        """Make DST hold exactly `wanted`, whatever it holds now; how many
        keys were written, and deleted."""
        found = [(kv.key, self.shown(kv.raw)) async for kv in self.sync.list(self._under)]
        present = {key: raw for key, raw in found if raw is not None}
        writes = [KeyWrite(key, raw) for key, raw in wanted.items() if present.get(key) != raw]
        extra = [KeyWrite(key, None) for key in present if key not in wanted]
        both = [*writes, *extra]
        for at in range(0, len(both), self._batch):
            await self.write(both[at : at + self._batch])
        return len(writes), len(extra)

    async def write(self, writes: Iterable[KeyWrite]) -> None:
        """Store each value, delete each key that has none: together, where DST has transactions."""
        await write_together(self.sync, writes, transactions=self._transactions)


class _News(NamedTuple):
    """What is told of a mirror: to a person, and to a script."""

    text: str
    members: dict[str, Any]

    def say(self, output: Output) -> None:
        """Print it."""
        if output.json:
            output.record(**self.members)
        else:
            output.line(redact(self.text))
        output.flush()


class _Mirror:
    def __init__(self, source: DataSync, target: _Target, under: str, output: Output) -> None:
        self._source = source
        self._target = target
        self._output = output
        self._shown = target.shown
        self._source_events = source.watch("source", under)
        self._target_events = target.sync.watch("target", under)
        self._wanted: dict[str, bytes] | None = None  # what SRC holds; None before its first RESYNC
        self._in_step = False
        self._failing = False
        self._turn = asyncio.Lock()  # the two watches take turns at DST

    async def run(self) -> None:
        async with self._source, self._target.sync, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(self._source_events, self._take))
            tasks.create_task(self._follow(self._target_events, self._check))
            tasks.create_task(self._tell_reconnects())

    async def _follow(
        self, events: Watch[bytes], handle: Callable[[Event[bytes]], Awaitable[_News | None]]
    ) -> None:
        async for event in events:
            try:
                async with self._turn:
                    news = await handle(event)
            except Exception as error:
                if not self._failing:
                    complain(f"not in step: {error}; trying again")
                self._in_step, self._failing = False, True
                event.done(error)
            else:
                # not above: that nobody can be told is not the fault of DST, and trying again does
                # not help
                if news is not None:
                    news.say(self._output)

    # Each of these returns what is to be told, if anything.

    async def _take(self, event: Event[bytes]) -> _News | None:
        """An event of SRC."""
        if isinstance(event, ResyncEvent):
            self._wanted = self._shown_in(event)
            self._in_step = False
        wanted = self._wanted
        assert wanted is not None
        writes = []
        if isinstance(event, ChangeEvent):
            for change in event.changes:
                raw = self._shown(change.raw)
                if raw is not None:
                    wanted[change.key] = raw
                elif wanted.pop(change.key, None) is None:
                    continue
                writes.append(KeyWrite(change.key, raw))
        if not self._in_step:
            return await self._bring_in_step()
        await self._target.write(writes)
        return None

    async def _check(self, event: Event[bytes]) -> _News | None:
        """An event of DST: mostly the echo of what was written here."""
        wanted = self._wanted
        if wanted is None:
            return None
        if not self._in_step:
            return await self._bring_in_step()
        if isinstance(event, ChangeEvent):
            suspect = [
                change.key
                for change in event.changes
                if self._shown(change.raw) != wanted.get(change.key)
            ]
            return await self._put_right(wanted, suspect)
        if wanted != self._shown_in(event):
            return await self._bring_in_step()
        return None

    async def _put_right(self, wanted: dict[str, bytes], suspect: Sequence[str]) -> _News | None:
        """Look up again what seemed to differ: it may be the echo of an older write."""
        if len(suspect) > _FEW:
            return await self._bring_in_step()
        wrong = []
        for key in suspect:
            found = await self._target.sync.get(key)
            if self._shown(None if found is None else found.raw) != wanted.get(key):
                wrong.append(KeyWrite(key, wanted.get(key)))
        if not wrong:
            return None
        await self._target.write(wrong)
        keys = [write.key for write in wrong]
        more = f" and {len(keys) - 1:,} more" if keys[1:] else ""
        return _News(
            f"put right in DST: {printable(keys[0])}{more}", {"op": "put_right", "keys": keys}
        )

    def _shown_in(self, event: ResyncEvent[bytes]) -> dict[str, bytes]:
        pairs = [(kv.key, self._shown(kv.raw)) for kvs in event.values.values() for kv in kvs]
        return {key: raw for key, raw in pairs if raw is not None}

    async def _bring_in_step(self) -> _News | None:
        assert self._wanted is not None
        written, deleted = await self._target.match(self._wanted)
        known = self._in_step and not (written or deleted)
        self._in_step, self._failing = True, False
        if known:
            return None
        return _in_step("in step", len(self._wanted), written, deleted)

    async def _tell_reconnects(self) -> None:
        """What is lost is told by a warning of the engine; here what came back."""
        known = [0, 0]
        while True:
            await asyncio.sleep(_LOOK)
            for index, sync in enumerate((self._source, self._target.sync)):
                status = sync.status().sources[0]
                if status.reconnects != known[index] and status.error is None:
                    known[index] = status.reconnects
                    _News(
                        f"{status.name}: connected again",
                        {"op": "connected", "source": redact(status.name)},
                    ).say(self._output)


def _in_step(what: str, keys: int, written: int, deleted: int) -> _News:
    return _News(
        f"{what}: {many(keys, 'key')}, {written:,} written, {deleted:,} deleted",
        {"op": what.replace(" ", "_"), "keys": keys, "written": written, "deleted": deleted},
    )


def _run(options: argparse.Namespace) -> int:
    source, target = existing(options.src), open_url(options.dst)
    if type(source) is MemorySource:  # of this process, so that nobody has put anything into it
        raise UsageError(
            f"{source.name} is always empty here, and would empty DST; name another SRC"
        )
    if source.name == target.name:
        raise UsageError(f"{source.name} is both SRC and DST; name two sources")
    if not target.capabilities.writable:
        raise UsageError(f"{target.name} takes no writes; name another DST")
    under = options.under or ""
    check_prefix(under)
    output = Output(options.json)

    async def work() -> int:
        if not target.capabilities.transactions:
            complain(f"{target.name} has no transactions: the keys are written one by one")
        shown = _all if options.reports else _but_reports
        into = _Target(connect(target, options), under, target.capabilities, shown)
        if options.once:
            async with connect(source, options) as origin, into.sync:
                found = [(kv.key, shown(kv.raw)) async for kv in origin.list(under)]
                wanted = {key: raw for key, raw in found if raw is not None}
                written, deleted = await into.match(wanted)
            _in_step("copied", len(wanted), written, deleted).say(output)
        else:
            await _Mirror(connect(source, options), into, under, output).run()
        return 0

    return run(work())


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="copy the current state, and stop")
    parser.add_argument(
        "--reports",
        action="store_true",
        help="also what agents report (default: that of SRC is not copied, that of DST stays)",
    )
    source_options(parser)
    json_option(parser)


COMMANDS = (
    Command(
        "mirror",
        "keep DST equal to SRC, until ended; other keys of DST under the prefix are deleted",
        (
            Positional("src", "SRC", "the source to follow, for example sqlite:///a.db"),
            Positional("dst", "DST", "the source to write to"),
            Positional("under", "PREFIX", "only the keys under this prefix", required=False),
        ),
        _options,
        _run,
        """
datasync mirror sqlite:///a.db sqlite:///b.db
datasync mirror sqlite:///a.db sqlite:///b.db config/ --once
DATASYNC_URL=sqlite:///a.db datasync mirror sqlite:///b.db
""",
        urls=2,
        follows=True,
    ),
)
