"""The reporter of an agent: keeps what it says of itself in a store up to date, unasked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from datasync.errors import Conflict, DataSyncError, WatchClosed
from datasync.events import Event
from datasync.options import Options
from datasync.reports.answering import Answering
from datasync.reports.destination import Destination
from datasync.reports.form import Digest, Progress, decode_progress, encode
from datasync.reports.portions import TOGETHER, read_in_portions, write_in_portions
from datasync.reports.rivals import Rivals
from datasync.source import Check, Delete, Operation, Put, Source
from datasync.syncbase.engine import Engine
from datasync.syncbase.layer import Layer
from datasync.syncbase.standing import Picture
from datasync.tasks import end_tasks
from datasync.texts import in_one_line, logger

__all__ = ["LEASE", "Reporter"]

log = logger("datasync.reports")

LEASE = 30.0
"""Seconds for which a report is good."""
_RENEW = LEASE / 3
"""Seconds after a report by which the next one is due, as a sign of life."""
_SPREAD = 0.2
"""By what share of that it may be earlier: two agents by one name that always look, and write, at
the same moment would never find each other."""
_PAUSE = 0.2
"""Seconds between two reports, at least: what changes meanwhile is one report."""
_SHARE = 20
"""How many times as long as a report took, of this loop's time, it waits with the next one."""
_SCOPES = 1000
"""Scopes that a report names, at most."""
_LAST = 1.0
"""Seconds that closing waits for the last report."""


class Reporter:
    """Writes as often as something has changed, at most a few times a second, and now and then as
    a sign of life. A store that is lost delays that, and nothing else.

    layer, written: see `Answering`.
    register: makes the watch of the tickets, by a name, of these prefixes with this handler.
    """

    def __init__(
        self,
        engine: Engine,
        to: Destination,
        options: Options,
        root: str,
        layer: Layer | None,
        written: Sequence[Source],
        register: Callable[[str, Sequence[str], Callable[[Event[bytes]], Any]], object],
    ) -> None:
        self._engine = engine
        self._standing = engine.stand()
        self.answering = Answering(engine, self._standing, to, root, layer, written)
        name, scopes = f"tickets at {to.place.prefix}", [to.place.all_tickets]
        register(name, scopes, self.answering.handle)
        self._to = to
        self._options = options
        self._instance = ""
        self._rivals = Rivals(LEASE)
        self._records: dict[str, bytes] | None = None
        """What lies there of our open keys, by name; None where that has to be read first."""
        self._read_at = 0
        """How many RESYNCs there had been when it was read."""
        self._lies_there = False
        """A progress of ours was there then, or is since."""
        self._digest = Digest()
        self._revision = 0
        """That of our progress, where the source has conditions."""
        self._before: Progress | None = None
        """The progress that lies there."""
        self._written_at = 0.0
        self._due_at = 0.0
        self._took = 0.0
        self._failures = 0
        self._trouble = ""
        self._tasks: list[asyncio.Task[None]] = []

        self.reports = 0
        """Those that were written."""
        self.records = 0
        """Records that were written or deleted with them."""
        self.failures = 0
        """Tries to report, or to answer, that have failed."""

    @property
    def agent(self) -> str:
        """The name that it reports under."""
        return self._to.agent

    @property
    def instance(self) -> str:
        """What it reports as since it was started; empty before."""
        return self._instance

    @property
    def where(self) -> str:
        """Where it reports to."""
        return f"{self._to.place.prefix} in {self._to.source.name}"

    @property
    def trouble(self) -> str | None:
        """Why it cannot report; None while it can."""
        return self._trouble if self._failures else None

    @property
    def age(self) -> float | None:
        """Seconds since it reported last; None where it has not."""
        return None if not self.reports else self._engine.now() - self._written_at

    def start(self) -> None:
        """Report from now on."""
        self._instance = self._engine.new_identity()
        loop = asyncio.get_running_loop()
        self._tasks += [
            loop.create_task(self._run(), name="datasync reports"),
            loop.create_task(self._answer(), name="datasync answers"),
        ]

    async def aclose(self) -> None:
        """Say that it is over, where the store can be reached, and report no more."""
        tasks, self._tasks = self._tasks, []
        try:
            if tasks:
                await end_tasks(*tasks)
                await self._say_that_it_is_over()
        finally:
            self._engine.stand_down(self._standing)
            del tasks  # G9: they lead back here by the tracebacks of their ends

    # -- within ------------------------------------------------------------------------------------

    async def _say_that_it_is_over(self) -> None:
        if self._failures or self._engine.closed:
            return
        with contextlib.suppress(Exception):  # nobody is left to try it again
            async with asyncio.timeout(min(_LAST, self._options.close_timeout)):
                await self._report(stopped=True)

    async def _run(self) -> None:
        while True:
            try:
                wrote = await self._report()
            except Exception as error:
                await self._wait_after(error)
                continue
            if self._failures:
                log.info("%s: reports again", self._to.source.name)
                self._failures = 0

            # whatever changed while it was written is seen by the next look, which finds nothing
            # before it waits
            if not wrote:
                try:
                    await self._changed()
                except WatchClosed:
                    return
            await asyncio.sleep(max(_PAUSE, _SHARE * self._took))

    async def _answer(self) -> None:
        answering, failures = self.answering, 0
        while True:
            try:
                await write_in_portions(self._to.source, await answering.something())
            except WatchClosed:
                return
            except Exception as error:
                failures += 1
                self.failures += 1
                if failures.bit_count() == 1:
                    log.warning("%s: cannot answer: %s", self._to.source.name, _why(error))
                await asyncio.sleep(self._options.reconnect.delay(failures, self._engine.rng))
                continue
            failures = 0
            answering.written()

    async def _changed(self) -> None:
        """Wait until the engine was told of anything, or a sign of life is due."""
        left = self._due_at - self._engine.now()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._engine.turn()

    async def _wait_after(self, error: Exception) -> None:
        if isinstance(error, Conflict):  # another one by this name, or a write of ours came late
            await asyncio.sleep(_PAUSE * (1 + 4 * self._engine.rng.random()))
            return
        self._failures += 1
        self.failures += 1
        self._trouble = _why(error)
        if self._failures.bit_count() == 1:
            log.warning("%s: cannot report: %s", self._to.source.name, self._trouble)
        await asyncio.sleep(self._options.reconnect.delay(self._failures, self._engine.rng))

    async def _report(self, *, stopped: bool = False) -> bool:
        """Write what is new. Whether there was anything."""
        due = self._engine.now() >= self._due_at
        # where no condition tells that somebody else was there, a look does, now and then
        looks = due and not self._to.source.capabilities.cas
        if self._records is None or looks or self._read_at != self.answering.resyncs:
            await self._read()
        assert self._records is not None
        began = self._engine.now()
        picture = self._standing.picture()
        records = self._wanted(picture)
        operations = self._steps(self._records, records)
        progress = self._progress(picture, stopped=stopped)
        self._took = self._engine.now() - began
        if not (operations or due or not self._lies_there or self._differs(progress)):
            return False

        self._records = None  # until it is known that all of it was done
        await self._write(operations, encode(progress))
        self._records, self._before, self._lies_there = records, progress, True
        self._written_at = now = self._engine.now()
        self._due_at = now + _RENEW * (1 - _SPREAD * self._engine.rng.random())
        self.reports += 1
        self.records += len(operations)
        return True

    async def _write(self, records: list[Operation], progress: bytes) -> None:
        """G10: the progress comes last, so that it never belongs to records that are not there."""
        source = self._to.source
        put = Put(self._to.place.progress(self._to.agent), progress)
        if not source.capabilities.cas:
            await write_in_portions(source, [*records, put])
            return
        checked: list[Operation] = [Check(put.key, self._revision), put]
        if len(records) + len(checked) <= min(
            source.capabilities.max_operations or TOGETHER, TOGETHER
        ):
            checked, records = [*records, *checked], []
        await write_in_portions(source, records)
        self._revision = (await source.commit(checked)).revision or 0

    async def _read(self) -> None:
        """What lies there, by an earlier life of this agent, or another agent by its name."""
        place, source, agent = self._to.place, self._to.source, self._to.agent
        self._read_at = self.answering.resyncs
        found = await source.get(place.progress(agent))
        there: Progress | None = None
        if found is not None:
            with contextlib.suppress(ValueError):  # somebody else's, or of another form: ours next
                there = decode_progress(found[0])
        self._revision = 0 if found is None else found[1]
        self._lies_there = there is not None and there.instance == self._instance
        self._look_for_rival(there)

        records, digest, root = dict[str, bytes](), Digest(), place.open(agent)
        for key, raw, _ in await read_in_portions(source, root):
            records[key.removeprefix(root)] = raw
            digest.add(key.removeprefix(root), raw)
        self._records, self._digest = records, digest  # of all of it, or it is read again

    def _look_for_rival(self, there: Progress | None) -> None:
        """After our first report nobody else writes there, unless two have one name."""
        if self._before is None or there is None or there.instance == self._instance:
            return
        if self._rivals.see(there, self._engine.now()):
            log.warning(
                "%s: another agent named %r reports there as well; give each one a name of its own "
                "with agent=",
                self._to.source.name,
                self._to.agent,
            )

    def _wanted(self, picture: Picture) -> dict[str, bytes]:
        """The records that are to be there."""
        wanted = {key: encode(report) for key, report in picture.keys.items()}
        if picture.complete:
            return wanted
        # what an earlier life left is not settled yet
        assert self._records is not None
        return {**self._records, **wanted}

    def _steps(self, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[Operation]:
        """From what is there to what is to be there; the digest follows."""
        root = self._to.place.open(self._to.agent)
        steps: list[Operation] = []
        for key, raw in before.items():
            if key not in after:
                self._digest.remove(key, raw)
                steps.append(Delete(root + key))
        for key, raw in after.items():
            old = before.get(key)
            if old != raw:
                if old is not None:
                    self._digest.remove(key, old)
                self._digest.add(key, raw)
                steps.append(Put(root + key, raw))
        return steps

    def _progress(self, picture: Picture, *, stopped: bool) -> Progress:
        return Progress(
            agent=self._to.agent,
            instance=self._instance,
            time=self._engine.wall(),
            lease=LEASE,
            open=self._digest.value,
            layers=picture.layers,
            scopes=picture.scopes[:_SCOPES],
            more_scopes=len(picture.scopes[_SCOPES:]),
            watches=picture.watches,
            stopped=stopped,
            rival=self._rivals.known(self._engine.now()),
        )

    def _differs(self, progress: Progress) -> bool:
        """Whether it says more than that the agent lives."""
        before = self._before
        return before is None or msgspec.structs.replace(before, time=progress.time) != progress


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, DataSyncError) else in_one_line(error)
