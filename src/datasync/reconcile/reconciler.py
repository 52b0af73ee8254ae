"""The front door of reconcile: kinds are registered, one watch is followed, operations are carried
out."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import itertools
import pathlib
import random
import time
import weakref
from collections.abc import AsyncIterator, Callable, Container, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from datasync import (
    Accepted,
    AlreadyRegistered,
    Backoff,
    BadPrefix,
    DataSync,
    Event,
    Failed,
    NotReady,
    Outcomes,
    Pending,
    Refused,
    ResyncEvent,
    UsageError,
    Watch,
    WatchClosed,
)
from datasync.options import check_seconds
from datasync.reconcile.changes import Changes
from datasync.reconcile.drawing import DrawnGraph, drawn
from datasync.reconcile.handlers import Handlers
from datasync.reconcile.kind import Found
from datasync.reconcile.panel import ReconcilerPanel
from datasync.reconcile.performer import Performer
from datasync.reconcile.picture import AT_WORK, NOT_RIGHT, Picture, reason_of
from datasync.reconcile.planner import Planner
from datasync.reconcile.plans import Plan, Plans
from datasync.reconcile.preview import Preview, previewed, values_in
from datasync.reconcile.reader import Reader
from datasync.reconcile.rehearsal import Rehearsal
from datasync.reconcile.rules import Rules
from datasync.reconcile.slots import ABSENT
from datasync.reconcile.states import State
from datasync.reconcile.status import ObjectChange, ReconcilerStatus
from datasync.reconcile.turns import Turns
from datasync.tasks import end_tasks
from datasync.texts import logger

__all__ = ["Reconciler"]

log = logger("datasync.reconcile")

C = TypeVar("C", bound=Callable[[], Any])
Told = Accepted | Refused | Pending | Failed

_NAMED = 10
"""Objects that a line of the log names, at most."""
_FEW = 64
"""Keys of one event of which is asked after each operation whether they can still be applied."""


class _Life(enum.Enum):
    NEW = "new"
    FOLLOWING = "following"
    TAKING_DOWN = "taking down"
    CLOSED = "closed"


class Reconciler:
    """Brings objects that depend on each other into the state that is stored.

    sync: where they are stored; it must be started before the reconciler is.
    ack_timeout: seconds that an event waits for its objects; those that are longer at work are
        pending for the publisher until they are done; default 2.
    retry: the waits between tries of one object; by default from 0.1 s, doubled up to 10 s.
    refresh_interval: seconds between two looks at what is there, to repair what others have
        changed; default None, only when `refresh` is called.
    on_close: what becomes of the objects when the reconciler is closed: "leave" (the default), all
        stay as they are, or "delete", they are taken down in order.
    close_timeout: seconds that this may take; default 30.

    Kinds are registered first, then `async with rec:` follows the store.
    """

    def __init__(
        self,
        sync: DataSync,
        *,
        ack_timeout: float = 2.0,
        retry: Backoff = Backoff(),  # noqa: B008 - frozen
        refresh_interval: float | None = None,
        on_close: Literal["leave", "delete"] = "leave",
        close_timeout: float = 30.0,
    ) -> None:
        for name, given in (
            ("ack_timeout", ack_timeout),
            ("refresh_interval", refresh_interval),
            ("close_timeout", close_timeout),
        ):
            if given is not None:
                check_seconds(name, given)
        if on_close not in ("leave", "delete"):
            raise UsageError(f"on_close must be 'leave' or 'delete', got {on_close!r}")
        rng = random.Random()  # noqa: S311 - no secret
        self._sync = sync
        self._ack_timeout = ack_timeout
        self._refresh_interval = refresh_interval
        self._on_close = on_close
        self._close_timeout = close_timeout
        self._life = _Life.NEW
        self._kinds: dict[str, tuple[Handlers, type[Any], bool]] = {}
        self._planner = Planner(self._kind_of, lambda attempt: retry.delay(attempt, rng))
        self._picture = Picture(self._planner)
        self._plans = Plans(lambda: asyncio.get_running_loop().time())
        self._turns = Turns(
            self._planner, lambda op, plan: self._performer.start(op, plan),
            self._show, self._decided,
        )  # fmt: skip
        self._performer = Performer(self._planner, self._plans, self._spawn, self._turns.tell)
        self._panel: ReconcilerPanel | None = None
        self._planning = asyncio.Lock()
        """One copy of all that is known is enough at a time."""
        self._readers: weakref.WeakSet[Changes] = weakref.WeakSet()
        self._reading = Reader(
            self._planner, ack_timeout / 2, retry, self._turns.tell, self._has_read
        )
        self._watch: Watch[Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._open: set[str] = set()
        """Keys whose publishers were told that they are pending, or have failed."""
        self._to_report: set[str] = set()
        """Those of them that have come into other states in this turn."""
        self._changed = asyncio.Event()
        self._answered = asyncio.Event()
        """The store has said what is stored. Nothing is read before, for all that is found would
        seem to be stored by nobody."""

    # -- kinds -------------------------------------------------------------------------------------

    def kind(
        self, prefix: str, *, type: type[Any] = bytes, derived: bool = False
    ) -> Callable[[C], C]:
        """Register a class without arguments as the kind of the objects under `prefix`; for the
        rest, see `add`."""

        def register(make: C) -> C:
            self.add(prefix, make(), type=type, derived=derived)
            return make

        return register

    def add(
        self, prefix: str, kind: Any, *, type: type[Any] = bytes, derived: bool = False
    ) -> None:
        """Register the kind of the objects under `prefix`.

        prefix: ends in a slash; where several fit a key, the longest counts.
        type: what the values decode to; default bytes.
        derived: whether its objects are derived from others alone, and nothing is watched there;
            default False.

        Raises `BadPrefix`, `AlreadyRegistered` for two kinds at one prefix, `UsageError` for what
        is no kind, and once it is started.
        """
        if self._life is not _Life.NEW:
            raise UsageError("the reconciler is started; register kinds before")
        if not isinstance(prefix, str) or not prefix.endswith("/"):
            raise BadPrefix(f"a kind needs a prefix that ends in a slash, got {prefix!r}")
        if prefix in self._kinds:
            name = self._kinds[prefix][0].name
            raise AlreadyRegistered(f"{prefix!r} is of the kind {name}; it cannot have two kinds")
        self._kinds[prefix] = (Handlers(prefix, kind, is_derived=derived), type, derived)

    def _kind_of(self, key: str) -> Rules | None:
        end = key.rfind("/")
        while end >= 0:
            known = self._kinds.get(key[: end + 1])
            if known is not None:
                return known[0]
            end = key.rfind("/", 0, end)
        return None

    # -- life --------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Follow the store. Raises `UsageError` without a kind that is watched, and the second
        time."""
        if self._life is not _Life.NEW:
            raise UsageError("a reconciler is started once; make another one")
        types = {
            prefix: type_ for prefix, (_, type_, derived) in self._kinds.items() if not derived
        }
        if not types:
            raise UsageError("a reconciler needs a kind; register one with kind() or add()")
        for handlers, _, _ in self._kinds.values():
            if handlers.can_retrieve or handlers.assumes_applied:
                self._planner.unread(handlers, "is being read")
        name = f"reconcile {next(iter(types))}"
        prefixes = [one for one in types if not any(one != p and one.startswith(p) for p in types)]
        self._sync.watcher(
            *prefixes, name=name, types=types,
            ack_timeout=self._ack_timeout + 5.0, resync_timeout=self._ack_timeout + 30.0,
        )(self._handle)  # fmt: skip
        self._watch = self._sync.watches[name]
        self._life = _Life.FOLLOWING
        self._panel = ReconcilerPanel(
            _free_name(self._sync.panels), [handlers for handlers, _, _ in self._kinds.values()],
            self._picture, self._plans, self._draw, self._plan,
        )  # fmt: skip
        self._sync.show(self._panel)

    async def aclose(self) -> None:
        """Follow the store no longer, and take all objects down if they are to be. Async operations
        that still run then are cancelled, plain ones are left to their threads."""
        if self._life in (_Life.TAKING_DOWN, _Life.CLOSED):
            return
        self._life = _Life.TAKING_DOWN
        if self._watch is not None:
            self._watch.close()
        try:
            if self._on_close == "delete" and self._answered.is_set():
                await self._take_down()
        finally:
            self._life = _Life.CLOSED
            if self._panel is not None:
                self._sync.hide(self._panel)
            if self._timer is not None:
                self._timer.cancel()
            self._turns.close()
            self._changed.set()
            await end_tasks(*self._tasks)
            await self._reading.aclose()
            self._plans.cut_off()
            for reader in self._readers:
                reader.end()

    async def _take_down(self) -> None:
        """Take down, in order, all that may be."""
        self._turns.tell(self._forget_all, self._plans.begin("closing"))
        planner = self._planner
        try:
            async with asyncio.timeout(self._close_timeout):
                while self._turns.is_busy or not planner.is_quiet or planner.next_retry is not None:
                    await self._changed.wait()
        except TimeoutError:
            pass  # what is left is told
        left = [
            key for key, node in self._planner.graph.nodes.items()
            if node.state in (*AT_WORK, State.FAILED)
        ]  # fmt: skip
        if left:
            some = ", ".join(left[:_NAMED]) + (", ..." if len(left) > _NAMED else "")
            log.warning("%d objects were not taken down when closing: %s", len(left), some)

    def _forget_all(self) -> Iterator[None]:
        for key in self._planner.stored():
            self._planner.delete(key)
            yield

    def _spawn(self, work: Any, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=f"datasync reconcile {name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("unexpected error in the reconciler", exc_info=error)

    # -- asking ------------------------------------------------------------------------------------

    def state(self, key: str) -> State | None:
        """Where an object stands; None for one that is neither stored nor there."""
        node = self._planner.graph.nodes.get(key)
        return None if node is None else node.state

    def reason(self, key: str) -> str:
        """Why it stands there: what a pending object waits for, what is wrong with an invalid one,
        what a failed one failed with; empty where there is nothing to say."""
        node = self._planner.graph.nodes.get(key)
        return "" if node is None else reason_of(self._planner, node)

    def handle(self, key: str) -> Any:
        """The handle of an object that is there. Raises `KeyError`."""
        node = self._planner.graph.nodes.get(key)
        if node is None or node.have is ABSENT:
            raise KeyError(key)
        return node.handle

    def status(self) -> ReconcilerStatus:
        """Where everything stands, as plain data; also after the end. It takes as long as there are
        objects that are not applied."""
        ahead = time.time() - time.monotonic()
        return ReconcilerStatus(
            self._answered.is_set(),
            [self._picture.kind(handlers) for handlers, _, _ in self._kinds.values()],
            self._picture.objects(lambda at: at + ahead),
            self._plans.status(),
        )

    def graph(self, about: str | None = None, *, depth: int = 1) -> DrawnGraph:
        """The objects with their needs: `rec.graph().dot()`, or `.mermaid()`.

        about: the key of the object in the middle; default None, all objects.
        depth: over how many needs to go from there, both ways; default 1.

        Raises `KeyError` for an object that is neither stored, there nor needed, `UsageError`.
        """
        if not isinstance(depth, int) or depth < 0:
            raise UsageError(f"depth must be an integer >= 0, got {depth!r}")
        graph = self._planner.graph
        return drawn(graph, None if about is None else graph.nodes[about], depth)

    def _draw(self, about: str) -> DrawnGraph | None:
        """For the page."""
        graph = self._planner.graph
        return drawn(graph, graph.nodes[about], 2, 40) if about in graph.nodes else None

    def changes(self, *, bound: int = 1024) -> AsyncIterator[ObjectChange]:
        """The changes of states from now on: `async for change in rec.changes()`.

        It ends when the reconciler is closed. Nobody waits for one who is slow to read.

        bound: changes that wait to be read one by one; those beyond are folded by object; default
            1024.

        Raises `UsageError`.
        """
        if not isinstance(bound, int) or bound < 1:
            raise UsageError(f"bound must be an integer >= 1, got {bound!r}")
        reader = Changes(bound)
        if self._life is _Life.CLOSED:
            reader.end()
        self._readers.add(reader)
        return reader

    async def plan(
        self, values: Mapping[str, object] | str | pathlib.Path, *, prune: str | None = None
    ) -> Preview:
        """What would it change to store these values now? Nothing is changed, read or written.

        It takes a part of the time that the start takes with as many objects, and lets others have
        their turn meanwhile; one is made after the other. Operations that run are taken to succeed.

        values: by key: as the kind has them, bytes as they are stored, or None for a delete; or the
            name of a file with them (YAML, JSON, JSON lines, TOML or .env), as `datasync apply` has
            it.
        prune: the prefix under which all keys would be deleted that the values lack; default None,
            nothing would be.

        Raises `NotReady` before the store has answered, `UsageError` before the start; `BadFile`,
        and `OSError` for a file that cannot be read.
        """
        if not isinstance(values, Mapping):
            values = await asyncio.to_thread(values_in, pathlib.Path(values))
        return await self._plan(values, prune)

    async def _plan(self, values: Mapping[str, object], prune: str | None) -> Preview:
        if self._watch is None or self._life is not _Life.FOLLOWING:
            raise UsageError("the reconciler does not run; use `async with rec:`")
        if not self._answered.is_set():
            raise NotReady("the store has not said yet what is stored; ask again later")
        watched = tuple(prefix for prefix, (_, _, derived) in self._kinds.items() if not derived)
        async with self._planning:
            rehearsal = Rehearsal(
                self._planner, [handlers for handlers, _, _ in self._kinds.values()]
            )
            return await previewed(
                rehearsal, self._turns.told, lambda key: key.startswith(watched),
                self._watch.decode, values, prune,
            )  # fmt: skip

    async def wait(self, key: str, state: State | None, timeout: float | None = None) -> None:
        """Wait until the object is in that state.

        timeout: in seconds; default None, for ever.

        Raises `TimeoutError` with the state that it is in, `WatchClosed`, and `UsageError` for what
        is no state.
        """
        if state is not None and not isinstance(state, State):
            raise UsageError(f"state must be a State or None, got {state!r}")
        try:
            async with asyncio.timeout(timeout):
                while self._turns.is_half_way or self.state(key) is not state:
                    if self._life is _Life.CLOSED:
                        raise WatchClosed("the reconciler has been closed")
                    await self._changed.wait()
        except TimeoutError:
            why = self.reason(key)
            now = self.state(key)
            raise TimeoutError(
                f"{key!r} is {'absent' if now is None else now.value}" + (f": {why}" if why else "")
            ) from None

    async def refresh(self) -> None:
        """Read what is there, once the store has answered, and repair what is not as it is stored.
        Returns when it was read; a kind that cannot be is named in the log.

        Raises `UsageError` before the start.
        """
        if self._life is not _Life.FOLLOWING:
            raise UsageError("the reconciler does not run; use `async with rec:`")
        await self._answered.wait()
        await self._reading.read([h for h, _, _ in self._kinds.values() if h.can_retrieve])

    def notify(self, key: str, found: Found[Any, Any] | None) -> None:
        """Say what is there of one object, None for nothing, so that it is repaired. Before the
        store has answered and the kind was read, that changes nothing: it will be read.

        Raises `UsageError` for a key without a kind, and for a `Found` of another key; `TypeError`
        for what is not a `Found`.
        """
        kind = self._kind_of(key)
        if not isinstance(kind, Handlers):
            raise UsageError(f"no kind has a prefix of {key!r}")
        seen = None if found is None else kind.seen(found)
        if found is not None and found.key != key:
            raise UsageError(f"notified of {key!r}, and {found.key!r} was found; they must be one")
        if self._answered.is_set():
            self._turns.tell(
                partial(self._planner.notify, key, seen), self._plans.begin(f"notified of {key}")
            )

    def _has_read(self) -> None:
        self._turns.tell(_nothing, self._plans.begin("what is there was read"))

    # -- events ------------------------------------------------------------------------------------

    async def _handle(self, event: Event[Any]) -> None:
        """One event is one plan. Raises what became of its keys."""
        keys: set[str] = set()
        await self._turns.told(
            partial(self._take_over, event, keys), self._plans.begin(_cause(event))
        )
        waiting = set(keys)
        try:
            async with asyncio.timeout(self._ack_timeout):
                while self._at_work(waiting) and self._life is _Life.FOLLOWING:
                    await self._changed.wait()
        except TimeoutError:
            pass  # what is still at work is told so
        if self._turns.is_half_way:
            await self._turns.told(_nothing)
        outcomes = {key: self._told(key) for key in self._picture.among(keys, NOT_RIGHT)}
        if outcomes:
            self._open |= {key for key, told in outcomes.items() if not isinstance(told, Refused)}
            raise Outcomes(outcomes)

    def _take_over(self, event: Event[Any], keys: set[str]) -> Iterator[None]:
        """Tell the planner of an event, and begin to read with the first one. keys: takes up those
        that it is about."""
        planner = self._planner
        stored: dict[str, Any] = {}
        if isinstance(event, ResyncEvent):
            for values in event.values.values():
                for kv in values:
                    stored[kv.key] = kv.value
                    yield
            known = planner.stored()
            gone = [key for key in known if key not in stored and key not in event.undecodable]
        else:
            for change in event.changes:
                if change.raw is not None:
                    stored[change.key] = change.value
                    yield
            gone = [change.key for change in event.changes if change.raw is None]
        keys.update(gone, stored)
        self._open -= keys
        yield
        for key in gone:
            planner.delete(key)
            yield
        for key, value in stored.items():
            planner.put(key, value)
            yield

        if not self._answered.is_set():
            self._answered.set()
            first = [
                handlers for handlers, _, _ in self._kinds.values()
                if handlers.can_retrieve or handlers.assumes_applied
            ]  # fmt: skip
            self._spawn(self._reading.follow(first, self._refresh_interval), "read")

    def _at_work(self, waiting: set[str]) -> bool:
        """Whether any of these may still come into another state by itself; takes out those that
        have settled."""
        if self._turns.is_half_way:
            return True  # what they are to become is not decided
        if self._planner.is_quiet:
            waiting &= self._picture.among(waiting, AT_WORK)
            return bool(waiting)
        if len(waiting) > _FEW:
            return True  # to look at all of them after each operation would be quadratic
        nodes = self._planner.graph.nodes
        for key in list(waiting):
            node = nodes.get(key)
            state = None if node is None else node.state
            if state is State.PENDING and node is not None:
                settled = not self._planner.outlook.comes(node)
            else:
                settled = state not in AT_WORK
            if settled:
                waiting.discard(key)
        return bool(waiting)

    def _told(self, key: str) -> Told:
        """What the publisher of a key hears."""
        node = self._planner.graph.nodes.get(key)
        if node is None or node.state in (None, State.APPLIED, State.UNMANAGED):
            return Accepted()
        why = reason_of(self._planner, node) or node.state.value
        if node.state is State.INVALID:
            return Refused(why)
        return Failed(why) if node.state is State.FAILED else Pending(why)

    # -- operations --------------------------------------------------------------------------------

    def _decided(self, plan: Plan) -> None:
        """It is the end of a turn, which was part of that plan: tell what has changed."""
        self._planner.outlook.forget()  # somebody may have asked half-way
        self._performer.cancel_outdated()
        self._plans.settle(plan)
        report = {
            key: self._told(key)
            for key in self._to_report
            if key in self._open and self.state(key) not in AT_WORK
        }
        self._to_report.clear()
        if report and self._watch is not None:
            self._open -= {k for k, told in report.items() if isinstance(told, Accepted | Refused)}
            with contextlib.suppress(WatchClosed):  # the DataSync is closing
                self._watch.report(report)
        self._changed.set()
        self._changed = asyncio.Event()
        self._arm()

    def _show(self) -> None:
        """Tell those who follow the states how they have changed."""
        changes = self._planner.changes()
        self._picture.note(changes)
        self._to_report.update(one.key for one in changes if one.key in self._open)
        if not self._readers:
            return
        nodes = self._planner.graph.nodes
        for key, old, new in ((one.key, one.old, one.new) for one in changes):
            node = nodes.get(key)
            # where it has come further in the same turn, the reason is that of its last state
            reason = "" if node is None or node.state is not new else reason_of(self._planner, node)
            for reader in self._readers:
                reader.add(ObjectChange(key, old, new, reason))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = self._planner.next_retry
        if when is not None:
            self._timer = asyncio.get_running_loop().call_at(when, self._due)

    def _due(self) -> None:
        now = asyncio.get_running_loop().time()
        self._turns.tell(partial(self._planner.due, now), self._plans.begin("tried again"))


def _nothing() -> None:
    """Where there is no news."""


def _free_name(taken: Container[str]) -> str:
    """A name for the panel: "reconcile", or with a number where there are several."""
    names = itertools.chain(["reconcile"], (f"reconcile-{n}" for n in itertools.count(2)))
    return next(name for name in names if name not in taken)


def _cause(event: Event[Any]) -> str:
    """What to call the plan of an event."""
    if isinstance(event, ResyncEvent):
        number = sum(map(len, event.values.values()))
        return f"resync of {number:,} {'key' if number == 1 else 'keys'}"
    number = len(event.changes)
    return f"change of {event.changes[0].key}" if number == 1 else f"change of {number:,} keys"
