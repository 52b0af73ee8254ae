"""Random play: a planner, a world, and somebody who stores, breaks and changes things."""

from __future__ import annotations

import random
from typing import NamedTuple

from datasync.reconcile.needs import Needs
from datasync.reconcile.operations import Seen, Verb
from datasync.reconcile.planner import Planner
from datasync.reconcile.rules import Rules
from datasync.reconcile.slots import ABSENT, Operation
from datasync.reconcile.states import State
from datasync.testing.reconcile.checker import applicable, met
from datasync.testing.reconcile.trace import Object
from tests.helpers.reconcile.world import Fate, Things, Value, World, even, parent_of

_KEYS = [*(f"a/{number}" for number in range(5)), *(f"b/{number}" for number in range(5)), "c/x"]


class Game(NamedTuple):
    """One game by its number, as `check_seed` plays it."""

    seed: int
    steps: int = 120
    more: bool = True
    worse: bool = False
    crash_at: int | None = None


ONCE_BAD = (
    Game(15953, more=False),
    Game(17141, more=False),
    Game(22473, more=False),
    Game(1011, 200, crash_at=11),
    Game(55023),
    # something went with what had gone with something of which nobody knew what was left
    Game(702951, 200, more=False),
    Game(709274, 200, crash_at=74),
    # it counted what an object had needed before somebody changed it by hand
    Game(704977, 200, more=False),
    # another value was stored while the operation ran that failed for good
    Game(452, 60, worse=True),
    # what had failed for good held up what it stood on, and was to have no more
    Game(944, 60, worse=True),
    # what had failed for good met no needs that its old value meets
    Game(101700, 150, worse=True, crash_at=0),
    Game(202599, 150, more=False, worse=True),
    # its parts, that were to change with it, were waited for
    Game(201280, 150, worse=True, crash_at=130),
    Game(210044, 150, worse=True, crash_at=44),
    # it went with one of several, and nobody could read the others
    Game(811283, 150, worse=True, crash_at=131),
    # it was not seen to stand again, for neither was what it stands on
    Game(922055, 150, crash_at=35),
    # what it had hoped for was there, and went
    Game(905279, 150, worse=True, crash_at=53),
    # a part of what had failed for good met no needs that it meets as it is
    Game(922218, 150, more=False, worse=True),
    # it was to go, and held up by what is to be made again when it changes
    Game(927504, 150, more=False, worse=True),
    # a part, read before what it is one of, was to go, and nobody knew what was left of it
    Game(942148, 150, worse=True),
)
"""Games that ended badly before the planner was mended."""


class Play:
    """One game.

    rng: what decides; the same numbers play the same game.
    more: what decides about cancelled operations, and kinds that are read one after the other; None
        (the default): there is nothing of that.
    worse: what decides about values that are refused, or fail for good, when they are applied, about
        kinds that cannot be read for long, and about games in which things are changed by others
        while operations run; None (the default): there is nothing of that.
    crash_at: the step before which the process ends, whatever else happens; default None, none.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        more: random.Random | None = None,
        worse: random.Random | None = None,
        crash_at: int | None = None,
    ) -> None:
        self.rng = rng
        self.more = more
        self.worse = worse
        self.crash_at = crash_at
        self.kinds: dict[str, Rules] = {
            "a/": Things("as", limit=rng.randint(1, 3)),
            "b/": Things("bs", limit=2),
            "c/": Things("cs", limit=1, can_retrieve=False),
            "part/": Things("parts", limit=2),
        }
        self.world = World(strict=worse is None or worse.random() < 0.6)
        self.stored: dict[str, Value] = {}
        self.last_valid: dict[str, Value] = {}
        self.ill_fated: set[str] = set()
        """Where the last valid value may be an older one, or none."""
        self.touched: set[str] = set()
        """What this planner was told to be stored."""
        self.now = 0.0
        self.failing = True
        self._open_reading: tuple[int, dict[Rules, dict[str, Seen]]] | None = None
        self._is_unread = False
        self.planner = self._new_planner()

    def kind_of(self, key: str) -> Rules | None:
        return self.kinds.get(key.partition("/")[0] + "/")

    # -- what happens ------------------------------------------------------------------------------

    def play(self, steps: int) -> None:
        """Some steps, then until it is quiet. Raises AssertionError."""
        for step in range(steps):
            if step == self.crash_at:
                self.crash()
            if self.more is not None and self.more.random() < 0.1:
                self.cancel(self.more)
            if self.worse is not None and self.worse.random() < 0.1:
                self.give_up(self.worse)
            name = self.rng.choices(
                ["store", "start", "finish", "crash", "drift", "wait", "read"],
                [6, 8, 10, 0.4, 1, 2, 0.6],
            )[0]
            if (self.more or self.worse) and name in ("drift", "read"):
                self.start()  # as the reconciler does, before anything that is found is told
            getattr(self, name)()
        self.settle()

    def settle(self) -> None:
        """Until nothing is left to do; then check."""
        self.failing = False
        self.start()
        self._close_reading()
        self._rest()
        if not self.world.strict:
            self.planner.read(self.planner.begin_reading(), self._snapshot())
            self._rest()
        self.check()

    def _rest(self) -> None:
        for _ in range(2000):
            self.start()
            while self.planner.running:
                self.finish()
                self.start()
            if self.planner.next_retry is None:
                break
            self.now = max(self.now, self.planner.next_retry)
            self.planner.due(self.now)
        else:
            raise AssertionError("it does not come to rest")

    def store(self) -> None:
        """One transaction."""
        for key in self.rng.sample(_KEYS, self.rng.choice([1, 1, 1, 2, 3, 6])):
            if key in self.stored and self.rng.random() < 0.35:
                self.world.log.append(f"stored delete {key}")
                del self.stored[key]
                self.last_valid.pop(key, None)
                self.ill_fated.discard(key)
                self.planner.delete(key)
            else:
                value = self._value(key)
                self.world.log.append(f"stored {key} = {value}")
                self.stored[key] = value
                if not value.bad:
                    self.last_valid[key] = value
                    if value.fate is Fate.MADE:
                        self.ill_fated.discard(key)
                    else:
                        self.ill_fated.add(key)
                self.touched.add(key)
                self.planner.put(key, value)

    def start(self) -> None:
        if self._is_unread and self.more is None:
            return  # what stands on what is not known yet
        for op in self.planner.start():
            if op.verb is Verb.DELETE and not self.world.is_ours(op.key):
                assert op.key in self.touched, f"{op}: it belongs to somebody else"
            self.world.start(op)
        for changed in self.planner.changes():
            self.world.log.append(f"  {changed.key}: {changed.old} -> {changed.new}")

    def finish(self) -> None:
        """One of the operations that run ends."""
        running = list(self.planner.running.values())
        if not running:
            return
        op = self.rng.choice(running)
        if op.verb is Verb.RETRIEVE:
            self.world.finish(op, done=False)
            if self.failing and self.rng.random() < 0.2:
                self.planner.failed(op, "unreadable", self.now)
            else:
                self.planner.retrieved(op, self.world.seen(op.key))
        elif self.failing and self.rng.random() < 0.25:
            self._fail(op)
        elif not self.world.can_be_done(op):
            self.world.finish(op, done=False)
            self.planner.failed(op, "somebody else was here", self.now)
        elif op.new is not ABSENT and op.new.fate is Fate.REFUSED:
            self.world.finish(op, done=False)
            self.planner.refused(op, "refused")
        elif op.new is not ABSENT and op.new.fate is Fate.DOOMED:
            self.world.finish(op, done=False)
            self.planner.failed(op, "doomed", self.now, permanent=True)
        else:
            self.planner.done(op, self.world.finish(op, done=True))

    def _fail(self, op: Operation) -> None:
        if not op.kind.can_retrieve:
            self.world.finish(op, done=False)
        elif self.rng.random() < 0.2 and op.verb is not Verb.DELETE:  # half done
            self.world.finish(op, done=False)
            if op.verb is Verb.CREATE or op.key in self.world.there:
                self.world.set(op.key, Value(op.new.number + 100, shape=op.new.shape), ours=True)
        else:
            self.world.finish(op, done=self.rng.random() < 0.4 and self._can_succeed(op))
        self.planner.failed(op, "broken", self.now)

    def _can_succeed(self, op: Operation) -> bool:
        fated = op.new is not ABSENT and op.new.fate is not Fate.MADE
        return not fated and (self.world.strict or self.world.can_be_done(op))

    def cancel(self, rng: random.Random) -> None:
        """One of those that make what is not wanted any more is cut off."""
        outdated = [op for op in self.planner.running.values() if self.planner.is_outdated(op)]
        if outdated:
            op = rng.choice(outdated)
            self.world.log.append(f"cancel {op.key}")
            done = op.kind.can_retrieve and rng.random() < 0.5
            self.world.finish(op, done=done and self._can_succeed(op))
            self.planner.cancelled(op)

    def give_up(self, rng: random.Random) -> None:
        """One of the kinds that were not read yet cannot be."""
        if self._is_unread and self._open_reading is not None:
            self.start()
            found = self._open_reading[1]
            if found:
                kind = rng.choice(list(found))
                self.world.log.append(f"unreadable: {kind.name}")
                del found[kind]
                self.world.cannot_read(kind)
                self.planner.still_unread(kind, "unreadable")

    def wait(self) -> None:
        self.now += self.rng.choice([0.1, 1, 10])
        self.planner.due(self.now)

    def crash(self) -> None:
        """The process ends, at once; another one starts."""
        self.world.log.append("crash")
        for op in list(self.world.running.values()):
            if op.verb is Verb.RETRIEVE:
                self.world.finish(op, done=False)
            else:
                done = op.kind.can_retrieve and self.rng.random() < 0.5
                self.world.finish(op, done=done and self._can_succeed(op))
        for key in [key for key in self.world.there if key.startswith("c/")]:
            self.world.remove(key)  # such a kind is asked to be told the truth, at least
        for key in [key for key, value in self.stored.items() if value.bad]:
            self.last_valid.pop(key, None)
        self._open_reading = None
        self.world.can_read()
        self.world.forget()
        self.planner = self._new_planner()

    def _new_planner(self) -> Planner:
        self.touched = set(self.stored)
        planner = Planner(self.kind_of, lambda attempt: min(2.0**attempt, 30.0))
        readable = [kind for kind in self.kinds.values() if kind.can_retrieve]
        for kind in readable:
            planner.unread(kind, "not read yet")
        order = self.rng.choice(["store first", "read first", "read later"])
        if order != "read first":
            self._store_all(planner)
        number, found = planner.begin_reading(), self._snapshot()
        self._is_unread = order == "read later"
        if self._is_unread and self.more is not None:
            for kind in self.more.sample(readable, self.more.randrange(len(readable))):
                planner.read(number, {kind: found.pop(kind)}, last=False)
        if self._is_unread:
            self._open_reading = number, found
        else:
            planner.read(number, found)
        if order == "read first":
            self._store_all(planner)
        return planner

    def _store_all(self, planner: Planner) -> None:
        for key, value in sorted(self.stored.items()):
            planner.put(key, value)

    def _snapshot(self) -> dict[Rules, dict[str, Seen]]:
        found: dict[Rules, dict[str, Seen]] = {
            kind: {} for kind in self.kinds.values() if kind.can_retrieve
        }
        for key in self.world.there:
            kind, seen = self.kind_of(key), self.world.seen(key)
            assert kind is not None
            assert seen is not None
            if kind in found:
                found[kind][key] = seen
        return found

    def drift(self) -> None:
        """Somebody changes the real thing; it is noticed."""
        keys = [key for key in _KEYS if not key.startswith("c/") and key not in self.world.running]
        key = self.rng.choice(keys)
        if self.world.strict and any(map(_is_change, self.world.running.values())):
            return
        before = set(self.world.there)
        if key in self.world.there and self.rng.random() < 0.5:
            self.world.log.append(f"drift: {key} removed")
            self.world.remove(key)
        elif key in self.world.there:
            self.world.log.append(f"drift: {key} changed")
            old = self.world.there[key]
            self.world.set(key, Value(old.number + self.rng.choice([1, 2, 50])), ours=False)
        else:
            self.world.log.append(f"drift: {key} made")
            self.world.set(key, Value(self.rng.randrange(6)), ours=False)
        if self._is_unread:
            self.world.forget()
        if self.rng.random() < 0.5:
            self.planner.read(self.planner.begin_reading(), self._snapshot())
        else:
            for one in sorted({key} | (before - set(self.world.there))):
                self.planner.notify(one, self.world.seen(one))

    def read(self) -> None:
        """A reading that takes its time."""
        if self._open_reading is None:
            self._open_reading = (self.planner.begin_reading(), self._snapshot())
        else:
            self._close_reading()

    def _close_reading(self) -> None:
        if self._open_reading is not None:
            number, found = self._open_reading
            if self._is_unread:
                self.world.forget()  # what somebody has changed since the reading began
            self._open_reading, self._is_unread = None, False
            self.planner.read(number, found)
            if self.world.unread:  # they are read once more, and show what was done meanwhile
                self.start()
                snapshot = self._snapshot()
                again = {kind: snapshot[kind] for kind in snapshot if kind in self.world.unread}
                self.world.can_read()
                self.planner.read(self.planner.begin_reading(), again)

    # -- values ------------------------------------------------------------------------------------

    def _value(self, key: str) -> Value:
        rng = self.rng
        needs = tuple(self._need(key) for _ in range(rng.choice([0, 0, 1, 1, 2, 3])))
        parts: tuple[tuple[str, Value], ...] = ()
        if key.startswith("a/") and rng.random() < 0.3:
            parts = tuple(
                (f"part/{key}/{name}", Value(rng.randrange(4), shape=rng.randrange(2)))
                for name in rng.sample(["x", "y"], rng.randint(1, 2))
            )
        return Value(
            rng.randrange(6), needs, parts, shape=rng.choice([0, 0, 0, 1]),
            bad=rng.random() < 0.08, fate=self._fate(),
        )  # fmt: skip

    def _fate(self) -> Fate:
        if self.worse is None:
            return Fate.MADE
        return self.worse.choices(list(Fate), [8, 1, 1])[0]

    def _need(self, key: str) -> Needs:
        rng = self.rng
        others = [other for other in [*_KEYS, "part/a/1/x", "part/a/2/y"] if other != key]
        options = {
            "satisfies": even if rng.random() < 0.2 else None,
            "recreate_on_change": rng.random() < 0.1,
            # of one that cannot be read nobody knows whether it went before its need came back
            "goes_with": rng.random() < 0.15 and (self.world.strict or not key.startswith("c/")),
        }
        how = rng.random()
        if how < 0.6:
            return Needs.key(rng.choice(others), **options)  # type: ignore[arg-type]
        if how < 0.85:
            return Needs.any_of(*rng.sample(others, 2), **options)  # type: ignore[arg-type]
        prefix = rng.choice([p for p in ("a/", "b/", "part/") if not key.startswith(p)])
        return Needs.under(prefix, **options)  # type: ignore[arg-type]

    # -- what must be ------------------------------------------------------------------------------

    def goals(self) -> dict[str, Object]:
        """What is to be, with the parts."""
        values: dict[str, Value] = {}
        for key in self.stored:
            if key in self.last_valid and key not in self.ill_fated:
                values[key] = self.last_valid[key]
            elif (goal := self._kept(key)) is not None:
                values[key] = goal  # it was found, and what is stored is invalid
        goals = {key: Object(value, value.needs) for key, value in values.items()}
        for value in values.values():
            goals.update((part, _part(part, its)) for part, its in value.parts)
        for key in self.stored:
            goal = self.planner.graph.nodes[key].goal
            if _is_doomed(goal):  # parts that its old value has are as they were, or gone
                kept = dict(goal.parts).keys() & self.world.there.keys()
                for part in [one for one in goals if one.startswith(f"part/{key}/")]:
                    del goals[part]
                goals.update((part, _part(part, self.world.there[part])) for part in kept)
        return goals

    def _kept(self, key: str) -> Value | None:
        """What the planner keeps in the place of what cannot be applied."""
        node = self.planner.graph.nodes[key]
        goal = node.have if _is_doomed(node.goal) else node.goal
        return goal if isinstance(goal, Value) else None

    def check(self) -> None:
        goals = self.goals()
        violations = self.world.checker.end(goals)
        assert not violations, "; ".join(map(str, violations))
        there = {key: Object(value) for key, value in self.world.there.items()}
        others = {key: one for key, one in there.items() if key not in goals}
        expected = applicable(goals, others)
        nodes = self.planner.graph.nodes
        for key in others:
            assert key not in self.world.ours, f"{key} is left over"
            assert nodes[key].state is State.UNMANAGED, (key, nodes[key].state)
        for key, value in self.stored.items():
            state = nodes[key].state
            if value.bad or (value.fate is Fate.REFUSED and nodes[key].goal != value):
                assert state is State.INVALID, (key, state)
            elif value.fate is Fate.DOOMED and (
                key in there or all(met(need, there) for need in value.needs)
            ):
                assert state is State.FAILED, (key, state)
            else:
                is_there = key in expected and value.fate is Fate.MADE
                assert state is (State.APPLIED if is_there else State.PENDING), (key, state)
        self._check_counts()

    def _check_counts(self) -> None:
        """What the graph counts is what there is."""
        graph = self.planner.graph
        for node in graph.nodes.values():
            assert node.unmet == sum(not slot.held for slot in node.needs)
            assert node.busy == 0
            assert node.leaning == sum(node in one.leans for one in graph.nodes.values())
            assert (node.have is not ABSENT) == (node.key in self.world.there), node
            assert set(node.users) == {
                one for one in graph.nodes.values() if node in one.needs or node in one.leans
            }
        for choice in graph.choices.values():
            assert choice.users
            assert choice.leaning == sum(choice in one.leans for one in graph.nodes.values())
            assert choice.busy == choice.active == 0


def _part(key: str, value: Value) -> Object:
    return Object(value, (*value.needs, Needs.key(parent_of(key))))


def _is_doomed(value: object) -> bool:
    return isinstance(value, Value) and value.fate is Fate.DOOMED


def _is_change(op: Operation) -> bool:
    """What a world does to operations under way is not the planner's fault."""
    return any(isinstance(value, Value) for value in (op.old, op.new))


def check_seed(
    seed: int,
    steps: int = 60,
    *,
    more: bool = True,
    worse: bool = False,
    crash_at: int | None = None,
) -> Play:
    """One game by its number."""
    play = Play(
        random.Random(seed),
        more=random.Random(seed) if more else None,
        worse=random.Random(seed) if worse else None,
        crash_at=crash_at,
    )
    play.play(steps)
    return play
