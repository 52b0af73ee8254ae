"""Deliberate mistakes, planted one at a time in a file of the engine:
the simulation has to find each, or a direct test of the states where it can do no harm there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import datasync

_SEEDS = 400
_ROOT = Path(__file__).parents[2]
_PLANT = """
import importlib.util
import sys
name, file, start = sys.argv[1], sys.argv[2], int(sys.argv[3])

class Planted: # all other modules are those of the engine
    @staticmethod
    def find_spec(wanted, path, target=None):
        return importlib.util.spec_from_file_location(name, file) if wanted == name else None

sys.meta_path.insert(0, Planted)
"""
_HUNT = f"""{_PLANT}
from datasync.testing.simulation.__main__ import check_seed
assert sys.modules[name].__file__ == file
for seed in range(start, start + {_SEEDS}):
    found = check_seed(seed)[1]
    if found:
        print(seed, *sorted({{violation.validator for violation in found}}))
        sys.exit(3)
"""
_ASK = f"""{_PLANT}
import os
import pytest
found = pytest.main([
    "-x", "-q", "-c", os.devnull, "--rootdir=.", "--noconftest", "--import-mode=importlib",
    "-p", "no:cacheprovider", "tests/syncbase/test_states.py",
])
assert sys.modules[name].__file__ == file
sys.exit(3 if found == pytest.ExitCode.TESTS_FAILED else found)
"""


class Mistake(msgspec.Struct, frozen=True):
    """`right` stands once in `file` and becomes `wrong`.

    `start`: the first seed of the hunt, for a mistake that shows in few of them.
    """

    name: str
    file: str
    right: str
    wrong: str
    start: int = 0


MISTAKES = [
    Mistake(
        "the wrong edge: a session resumes at an older position, and commits come twice",
        "syncbase/core.py",
        "        layer.position = frame.position\n        if revision > layer.revision:",
        "        if revision > layer.revision:",
    ),
    Mistake(
        "a gate opened early: nobody waits for its turn in a round",
        "syncbase/rounds.py",
        "return watch not in self._line",
        "return True",
    ),
    Mistake(
        "a round in the wrong order",
        "syncbase/rounds.py",
        "self._line = OrderedDict.fromkeys(watches)",
        "self._line = OrderedDict.fromkeys(reversed(list(watches)))",
    ),
    Mistake(
        "a fold that drops prev",
        "syncbase/mailbox.py",
        "diffs.append((key, old, new))",
        "diffs.append((key, None, new))",
    ),
    Mistake(
        "a fold that keeps the last prev, not the first",
        "syncbase/mailbox.py",
        "folded.setdefault(key, old)",
        "folded[key] = old",
    ),
    Mistake(
        "an ack counted twice",
        "syncbase/mailbox.py",
        "            tally.vote(verdict, outcomes)\n            self.tally = None\n",
        "            tally.vote(verdict, outcomes)\n            tally.vote(verdict, outcomes)\n"
        "            self.tally = None\n",
    ),
    Mistake(
        "refused keys taken for accepted",
        "syncbase/outstanding.py",
        "            box.dirty.update({",
        "            dict({",
    ),
    Mistake(
        "a dirty key that is back where it was is not delivered",
        "syncbase/mailbox.py",
        "                if key in dirty or differ(old, new)\n",
        "                if differ(old, new)\n",
    ),
    Mistake(
        "a dependent watch does not wait",
        "syncbase/delivery.py",
        "if sub.after and not isinstance(out.event, ResyncEvent):",
        "if False and not isinstance(out.event, ResyncEvent):",
    ),
    Mistake(
        "a retry that forgets the backlog",
        "syncbase/mailbox.py",
        "        self.fold()\n        folded = self.folded\n",
        "        self.groups.clear()\n        self.fold()\n        folded = self.folded\n",
    ),
    Mistake(
        "a failed event is never brought again",
        "syncbase/delivery.py",
        "        self._withdraw(sub, out, dirty=True)\n        if not superseded:",
        "        sub.outstanding = None\n        if not superseded:",
    ),
    Mistake(
        "a report of an older event settles the one that is out",
        "syncbase/delivery.py",
        "if out is None or out.event is not event or out.stage is not _OUT:",
        "if out is None or out.stage is not _OUT:",
    ),
    Mistake(
        "the same bytes, written again, are delivered",
        "syncbase/mirror.py",
        "            elif old.raw == raw:\n",
        "            elif False:\n",
    ),
    Mistake(
        "keys that a new snapshot does not have stay",
        "syncbase/mirror.py",
        "(key, None) for key in known if key not in snapshot",
        "(key, None) for key in known if False",
    ),
    Mistake(
        "a new history goes unsaid",
        "syncbase/core.py",
        "            reason = NEW_HISTORY\n",
        "            pass\n",
    ),
    Mistake(
        "a prefix within another watch's prefix is not routed",
        "syncbase/router.py",
        "            watches.update(self._prefixes.get(directory[:length], ()))\n",
        "            watches = {*self._prefixes.get(directory[:length], watches)}\n",
    ),
    Mistake(
        "a transaction is split where the watch is busy",
        "syncbase/delivery.py",
        "        box.add(Group(self.seq, revision, source, diffs, tally, mixed))\n",
        "        for diff in diffs:\n"
        "            box.add(Group(self.seq, revision, source, [diff], None, mixed))\n"
        "        if tally is not None:\n            tally.close()\n",
    ),
    Mistake(
        "changes come before the RESYNC is accepted",
        "syncbase/delivery.py",
        "            sub.need_resync(event.reason)\n",
        "            sub.progress = Progress.FOLLOWING\n",
    ),
    Mistake(
        "a view does not wait for its revision",
        "syncbase/engine.py",
        "            return layer.ready and layer.revision >= revision\n",
        "            return layer.ready\n",
    ),
    Mistake(
        "a snapshot that holds a write is forgotten before the write has returned",
        "syncbase/core.py",
        "            self.confirmer.remember(layer, layer.staging_scopes)\n",
        "",
        start=270,
    ),
    Mistake(
        "an event that comes again holds what its handler has edited",
        "syncbase/outstanding.py",
        "[change for change in self.batch.changes(decode)",
        "[change for change in event.changes",
    ),
    Mistake(
        "an exception of one's own ends a source for good",
        "syncbase/feed.py",
        "            except BaseException as error:\n                await self._pause(failure(error))",
        "            except Exception as error:\n                await self._pause(failure(error))",
    ),
    Mistake(
        "what is overdue settles as accepted",
        "syncbase/outstanding.py",
        "self.batch.answer(Verdict.OVERDUE, NO_OUTCOMES)",
        "self.batch.answer(Verdict.ACCEPTED, NO_OUTCOMES)",
    ),
    Mistake(
        "a watch that is registered while running is shown what is known, however old",
        "syncbase/coverage.py",
        "(layer.fresh >= registered and scope in layer.complete)",
        "(scope in layer.complete)",
    ),
    Mistake(
        "what was forgotten and is wanted again is taken over in parts",
        "syncbase/core.py",
        "changes = layer.complete.keep(changes)",
        "changes = self._needed().keep(changes)",
        start=23_980,
    ),
    Mistake(
        "what a session adds stands where its snapshot was read, not where the rest does",
        "syncbase/handover.py",
        "                    self._fold(key, raw, commit.revision)\n",
        "                    pass\n",
    ),
    Mistake(
        "a session that takes over shows again what was shown",
        "syncbase/handover.py",
        "if layer.revisions and commit.revision > layer.revision:",
        "if layer.revisions:",
    ),
    Mistake(
        "a newer RESYNC that is due is forgotten when an older one is accepted",
        "syncbase/delivery.py",
        "            if sub.progress is Progress.RESYNCING:  # else a newer one is due\n",
        "            if True:\n                sub.progress = Progress.RESYNCING\n",
    ),
    Mistake(
        "a watch that follows takes no part in a round",
        "syncbase/delivery.py",
        "            sub.need_resync(reason)\n        self._take_back(sub)",
        "            if not sub.follows:\n                sub.need_resync(reason)\n        self._take_back(sub)",
    ),
    Mistake(
        "an event that no reader has received is lost",
        "syncbase/delivery.py",
        "            sub.outstanding.take_back()\n",
        "            sub.outstanding = None\n",
        start=700,
    ),
    # -- which data a watch has got
    Mistake(
        "a RESYNC counts as accepted when it is made",
        "syncbase/delivery.py",
        "        sub.enter(Progress.RESYNCING)\n",
        "        sub.enter(Progress.RESYNCING)\n        sub.enter(Progress.FOLLOWING)\n",
    ),
    Mistake(
        "a round waits for a watch that has been closed",
        "syncbase/delivery.py",
        "        self._turn(self.rounds.settled(sub))\n        for dependent",
        "        for dependent",
    ),
    Mistake(
        "a new history is said no more when another RESYNC comes on top of it",
        "syncbase/delivery.py",
        "        if sub.resync_reason != NEW_HISTORY:",
        "        if True:",
    ),
    # -- the one event that it has not settled
    Mistake(
        "an event that is delivered counts as not delivered",
        "syncbase/outstanding.py",
        "        self.stage = Stage.OUT\n",
        "        pass\n",
    ),
    Mistake(
        "an event that has been accepted stays out",
        "syncbase/delivery.py",
        "        sub.outstanding = None\n        self._settle(sub, its_turn=sub",
        "        self._settle(sub, its_turn=sub",
    ),
    Mistake(
        "an event without what does not decode is never brought",
        "syncbase/outstanding.py",
        "self.event, self.undecodable, self.stage = again, bad, Stage.READY",
        "self.event, self.undecodable = again, bad",
    ),
    Mistake(
        "an event that is ready comes though a RESYNC makes up for it",
        "syncbase/delivery.py",
        "        if out is not None and out.stage is Stage.READY:\n",
        "        if False:\n",
        start=10,
    ),
    # -- whether anybody waits for it
    Mistake(
        "a handler is never overdue",
        "syncbase/delivery.py",
        "            case _:  # ACK, READER\n",
        "            case Wait.ACK:\n                pass\n            case _:\n",
        start=90,
    ),
    Mistake(
        "a stream that nobody reads is never overdue",
        "syncbase/delivery.py",
        "            case _:  # ACK, READER\n",
        "            case Wait.READER:\n                pass\n            case _:\n",
    ),
    Mistake(
        "a watch is overdue for a source that is lost",
        "syncbase/delivery.py",
        "                sub.skip(Skipped.SOURCE)\n",
        "                self._pass_by(sub)\n",
    ),
    Mistake(
        "a watch that was overdue stays so",
        "syncbase/subscriber.py",
        "        self.skipped = skipped\n        if skipped",
        "        self.skipped = skipped if self.skipped is not Skipped.HANDLER else self.skipped\n        if skipped",
        start=200,
    ),
    Mistake(
        "a stream that nobody read stays so",
        "syncbase/subscriber.py",
        "        self.skipped = skipped\n        if skipped",
        "        self.skipped = skipped if self.skipped is not Skipped.READER else self.skipped\n        if skipped",
        start=170,
    ),
    Mistake(
        "a watch whose source was lost stays passed by",
        "syncbase/subscriber.py",
        "        self.skipped = skipped\n        if skipped",
        "        self.skipped = skipped if self.skipped is not Skipped.SOURCE else self.skipped\n        if skipped",
        start=160,
    ),
    # -- what is waited for
    Mistake(
        "no report is waited for",
        "syncbase/delivery.py",
        "        self._wait(sub, Wait.ACK, seconds)",
        "        pass",
        start=90,
    ),
    Mistake(
        "no reader is waited for",
        "syncbase/delivery.py",
        "        if sub.deadline is None and sub.skipped is Skipped.NO:\n",
        "        if sub.deadline is None and sub.skipped is Skipped.NO and sub.idle:\n",
    ),
    Mistake(
        "a lost source counts as a reader who is missing",
        "syncbase/delivery.py",
        "Wait.SOURCE if sub.idle else Wait.READER, sub",
        "Wait.READER, sub",
    ),
    Mistake(
        "a retry is waited for without an end",
        "syncbase/delivery.py",
        "            case Wait.RETRY:\n                self.pump(sub)",
        "            case Wait.RETRY:\n                pass",
    ),
    Mistake(
        "a report is waited for though it has come",
        "syncbase/delivery.py",
        "        self._stop_waiting(sub)\n        if sub.skipped is Skipped.HANDLER:\n",
        "        if sub.skipped is Skipped.HANDLER:\n",
        start=370,
    ),
    Mistake(
        "a reader is waited for though it asks",
        "syncbase/delivery.py",
        "            self._stop_waiting(sub)\n            self.pump(sub)",
        "            self.pump(sub)",
        start=10,
    ),
    # -- what has failed, and which try comes next
    Mistake(
        "tries are not counted",
        "syncbase/delivery.py",
        "            trouble.attempt += 1\n",
        "",
    ),
    Mistake(
        "a newer RESYNC is no first try",
        "syncbase/delivery.py",
        "        sub.trouble.attempt = 1\n",
        "",
        start=50,
    ),
    Mistake(
        "what has been accepted leaves its tries behind",
        "syncbase/subscriber.py",
        "        self.why, self.attempt, self.failures = None, 1, 0\n",
        "        self.why, self.failures = None, 0\n",
    ),
    # -- whose turn it is
    Mistake(
        "a watch that settled before its turn is waited for",
        "syncbase/rounds.py",
        "        self._line.pop(watch, None)\n",
        "",
        start=20,
    ),
    Mistake(
        "an event that gives way to a newer round takes the turn in it",
        "syncbase/delivery.py",
        "its_turn=sub.progress is not Progress.NEEDS_RESYNC)",
        "its_turn=True)",
        start=80,
    ),
    Mistake(
        "an event that fails before a newer round takes the turn in it",
        "syncbase/delivery.py",
        "        self._settle(sub, its_turn=not superseded)",
        "        self._settle(sub, its_turn=True)",
        start=370,
    ),
    # -- open keys
    Mistake(
        "an open key is brought again",
        "syncbase/outstanding.py",
        "for key, old, _ in self.batch.diffs if key in refused}",
        "for key, old, _ in self.batch.diffs if key in outcomes}",
    ),
    Mistake(
        "a key stays open though a later event of it was accepted",
        "syncbase/outstanding.py",
        "                box.open.pop(key, None)\n",
        "",
    ),
    Mistake(
        "a key stays open though a RESYNC was accepted",
        "syncbase/outstanding.py",
        "            box.open.clear()\n",
        "",
    ),
    Mistake(
        "the same bytes of an open key are accepted",
        "syncbase/core.py",
        "                    tally.note_keys(sub.said_of([diff[0]]))\n",
        "                    pass\n",
        start=70,
    ),
    Mistake(
        "the same bytes of an open key are accepted where they waited",
        "syncbase/mailbox.py",
        "                group.tally.note_keys({key: self.open[key] for key in open_keys})\n",
        "                pass\n",
        start=990,
    ),
    Mistake(
        "an older commit counts as newer than a delete in vain",
        "outcome.py",
        "                if vote.written >= revision:\n",
        "                if False:\n",
        start=25780,
    ),
    Mistake(
        "an open key that a fold leaves as it is counts as accepted",
        "syncbase/mailbox.py",
        "            if any(said):\n",
        "            if False:\n",
        start=150,
    ),
    Mistake(
        "a write that nobody is brought any more counts as accepted though its key is open",
        "syncbase/confirmer.py",
        "                tally.note_keys(sub.said_of(mine))\n",
        "                pass\n",
        start=60,
    ),
    Mistake(
        "of a fold each publisher hears of all keys",
        "outcome.py",
        "        if outcomes and self.keys is not None:\n",
        "        if False:\n",
    ),
    Mistake(
        "a key that is reported as pending again keeps its first reason",
        "syncbase/delivery.py",
        "                opened[key] = outcome\n",
        "                pass\n",
    ),
    Mistake(
        "a key stays open though it is reported as applied",
        "syncbase/delivery.py",
        "            del opened[key]\n",
        "            pass\n",
    ),
    Mistake(
        "a report opens a key that is not open",
        "syncbase/delivery.py",
        "            if key not in opened:\n                continue\n            if",
        "            opened.setdefault(key, outcome)\n            if",
    ),
    Mistake(
        "a key that is refused late is not dirty",
        "syncbase/delivery.py",
        "            sub.mailbox.dirty.setdefault(key, before)\n",
        "            pass\n",
    ),
    Mistake(
        "a key that is refused late is dirty with what its event brings that is out",
        "syncbase/delivery.py",
        "                before = sub.outstanding.before(key, before)\n",
        "                pass\n",
        start=190,
    ),
    Mistake(
        "a watch with an open key is fast",
        "syncbase/delivery.py",
        "box.dirty or box.open or sub.refused",
        "box.dirty or sub.refused",
        start=60,
    ),
    Mistake(
        "a key that fails is better than one that is pending",
        "outcome.py",
        '"pending": 2, "refused": 3, "failed": 4,',
        '"failed": 2, "refused": 3, "pending": 4,',
        start=70,
    ),
]


UNSEEN = [
    # -- which data a watch has got: a closed one is in no router any more, and has no runner
    Mistake(
        "a watch is not closed before its RESYNC is made",
        "syncbase/delivery.py",
        "        sub.enter(Progress.CLOSED)\n",
        "        if sub.progress is not Progress.NEEDS_RESYNC:\n            sub.enter(Progress.CLOSED)\n",
    ),
    Mistake(
        "a watch is not closed while it resyncs",
        "syncbase/delivery.py",
        "        sub.enter(Progress.CLOSED)\n",
        "        if sub.progress is not Progress.RESYNCING:\n            sub.enter(Progress.CLOSED)\n",
    ),
    Mistake(
        "a watch that follows is not closed",
        "syncbase/delivery.py",
        "        sub.enter(Progress.CLOSED)\n",
        "        if not sub.follows:\n            sub.enter(Progress.CLOSED)\n",
    ),
    # nothing but `ready`, and the last retry, asks whether it follows
    Mistake(
        "a watch never follows",
        "syncbase/delivery.py",
        "                sub.enter(Progress.FOLLOWING)\n",
        "                pass\n",
    ),
    Mistake(
        "an event that failed too often comes again as it is",
        "syncbase/delivery.py",
        '                sub.need_resync(f"{trouble.attempt} tries failed: {trouble.why}")\n',
        "                pass\n",
    ),
    Mistake(
        "any progress may follow on any other",
        "syncbase/subscriber.py",
        "assert progress in _PROGRESS[self.progress], (",
        "assert progress in _PROGRESS, (",
    ),
    # -- whether anybody waits for it: faults end before the others have waited for long
    Mistake(
        "a lost source is waited for without an end",
        "syncbase/delivery.py",
        "                sub.skip(Skipped.SOURCE)\n",
        "                return\n",
    ),
    Mistake(
        "a handler stays overdue with an event that it has not received",
        "syncbase/delivery.py",
        "                sub.skip(Skipped.READER)\n",
        "                pass\n",
    ),
    Mistake(
        "a stream that loses its reader while a source is lost is waited for",
        "syncbase/delivery.py",
        "            self._wait(sub, Wait.READER, sub.spec.ack_timeout)\n",
        "            pass\n",
    ),
    Mistake(
        "a watch that is passed by may be so for any other reason next",
        "syncbase/subscriber.py",
        "assert skipped in _SKIPPED[self.skipped],",
        "assert skipped in _SKIPPED,",
    ),
    # -- what is waited for: that changes when something comes, not what
    Mistake(
        "a retry comes at once",
        "syncbase/delivery.py",
        "            self._wait(sub, Wait.RETRY, after)",
        "            pass",
    ),
    Mistake(
        "no lost source is waited for",
        "syncbase/delivery.py",
        "        if sub.deadline is None and sub.skipped is Skipped.NO:\n",
        "        if sub.deadline is None and sub.skipped is Skipped.NO and not sub.idle:\n",
    ),
    Mistake(
        "a lost source is waited for, though no reader is there any more either",
        "syncbase/delivery.py",
        "            sub.wait_for(Wait.READER, sub.deadline.at)\n",
        "            pass\n",
    ),
    Mistake(
        "a report is waited for though the event was not received",
        "syncbase/delivery.py",
        "            sub.outstanding.take_back()\n            sub.deadline = None\n",
        "            sub.outstanding.take_back()\n",
    ),
    Mistake(
        "a newer RESYNC waits for the retry",
        "syncbase/delivery.py",
        "        self._end_retry(sub)\n        sub.trouble",
        "        sub.trouble",
    ),
    Mistake(
        "who asks ends the wait of a retry",
        "syncbase/delivery.py",
        "        if sub.deadline is not None and sub.deadline.wait is not Wait.RETRY:\n",
        "        if sub.deadline is not None:\n",
    ),
    Mistake(
        "any wait may follow on any other",
        "syncbase/subscriber.py",
        "return wait in _WAIT[before] and",
        "return wait in _WAIT and",
    ),
    # -- what the status shows of its trouble
    Mistake(
        "an accepted event leaves behind what the one before failed with",
        "syncbase/subscriber.py",
        "        self.why, self.attempt, self.failures = None, 1, 0\n",
        "        self.attempt, self.failures = 1, 0\n",
    ),
    Mistake(
        "it fails since its last failure",
        "syncbase/subscriber.py",
        "        if self.why is None:\n            self.since = now",
        "        self.since = now",
    ),
    Mistake(
        "nobody knows since when it is overdue",
        "syncbase/delivery.py",
        "        sub.trouble.begin(self._wall())\n        if sub.outstanding",
        "        if sub.outstanding",
    ),
]
"""These break no guarantee that a trace could show."""


@pytest.mark.apart
@pytest.mark.once
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_simulation_finds_it(mistake: Mistake, tmp_path: Path) -> None:
    hunt = _run(_HUNT, mistake, tmp_path)
    assert hunt.returncode == 3, (
        f"{hunt.returncode} after {_SEEDS} seeds from {mistake.start}: {hunt.stderr[-800:]}"
    )


@pytest.mark.apart
@pytest.mark.once
@pytest.mark.parametrize("mistake", UNSEEN, ids=lambda mistake: mistake.name)
def test_a_direct_test_finds_it(mistake: Mistake, tmp_path: Path) -> None:
    asked = _run(_ASK, mistake, tmp_path)
    assert asked.returncode == 3, f"{asked.returncode}: {asked.stdout[-800:]}{asked.stderr[-800:]}"


def test_each_mistake_can_be_planted() -> None:
    for mistake in (*MISTAKES, *UNSEEN):
        _original(mistake)


@pytest.mark.once
def test_where_nothing_is_planted_nothing_is_found(tmp_path: Path) -> None:
    asked = _run(
        _ASK,
        Mistake("none", "syncbase/delivery.py", "import random\n", "import random\n"),
        tmp_path,
    )
    assert asked.returncode == 0, asked.stdout[-800:]


def _original(mistake: Mistake) -> str:
    text = (Path(datasync.__file__).parent / mistake.file).read_text()
    assert text.count(mistake.right) == 1, f"{mistake.name}: the engine has changed: plant it again"
    return text


def _run(script: str, mistake: Mistake, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    planted = tmp_path / "planted.py"
    planted.write_text(_original(mistake).replace(mistake.right, mistake.wrong))
    module = f"datasync.{mistake.file.removesuffix('.py').replace('/', '.')}"
    return subprocess.run(
        [sys.executable, "-c", script, module, str(planted), str(mistake.start)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=_ROOT,
    )
