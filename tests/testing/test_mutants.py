"""Deliberate mistakes, planted one at a time in a copy of the engine: the simulation has to find each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import datasync

_SEEDS = 400
_HUNT = f"""
import sys
from datasync.testing.simulation import check_seed
start = int(sys.argv[1])
for seed in range(start, start + {_SEEDS}):
    found = check_seed(seed)[1]
    if found:
        print(seed, *sorted({{violation.validator for violation in found}}))
        sys.exit(3)
"""


class Mistake(msgspec.Struct, frozen=True):
    """`right` stands once in `file` and becomes `wrong`. `start`: the first seed of the hunt, for a mistake that shows
    in few of them."""

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
        "resync/rounds.py",
        "return watch not in self._line",
        "return True",
    ),
    Mistake(
        "a round in the wrong order",
        "resync/rounds.py",
        "self._line = OrderedDict.fromkeys(watches)",
        "self._line = OrderedDict.fromkeys(reversed(list(watches)))",
    ),
    Mistake(
        "a fold that drops prev",
        "syncbase/mailbox.py",
        "changes.append(Change(key, newest if new is None else new.revision, new, old, decode))",
        "changes.append(Change(key, newest if new is None else new.revision, new, None, decode))",
    ),
    Mistake(
        "a fold that keeps the last prev, not the first",
        "syncbase/mailbox.py",
        "behind.setdefault(key, old)",
        "behind[key] = old",
    ),
    Mistake(
        "an ack counted twice",
        "syncbase/mailbox.py",
        "            self.tally.vote(verdict, reasons)\n            self.tally = None\n",
        "            self.tally.vote(verdict, reasons)\n            self.tally.vote(verdict, reasons)\n"
        "            self.tally = None\n",
    ),
    Mistake(
        "refused keys taken for accepted",
        "syncbase/delivery.py",
        "box.dirty.update({change.key: change._old for change in batch.changes if change.key in refused})",
        "pass",
    ),
    Mistake(
        "a dirty key that is back where it was is not delivered",
        "syncbase/mailbox.py",
        "if key in dirty or (old is not new",
        "if (old is not new",
    ),
    Mistake(
        "a dependent watch does not wait",
        "syncbase/delivery.py",
        "if sub.after and not isinstance(event, ResyncEvent):",
        "if False and not isinstance(event, ResyncEvent):",
    ),
    Mistake(
        "a retry that forgets the backlog",
        "syncbase/mailbox.py",
        'or never delivered, with all that came behind it."""\n',
        'or never delivered, with all that came behind it."""\n        self.groups.clear()\n',
    ),
    Mistake(
        "a failed event is never brought again",
        "syncbase/delivery.py",
        "        self._withdraw(sub, event, dirty=True)\n        if not superseded:",
        "        sub.event = sub.batch = None\n        if not superseded:",
    ),
    Mistake(
        "a report of an older event settles the one that is out",
        "syncbase/delivery.py",
        "        if sub.event is not event:\n            return\n        if error is None and sub.plain:",
        "        if sub.event is None:\n            return\n        event = sub.event\n"
        "        if error is None and sub.plain:",
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
        "(key, None) for key in known if key in mine and key not in snapshot",
        "(key, None) for key in mine if False",
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
        "syncbase/core.py",
        "        box.add(Group(self._seq, revision, source, diffs, tally, mixed))\n",
        "        for diff in diffs:\n            box.add(Group(self._seq, revision, source, [diff], None, mixed))\n"
        "        if tally is not None:\n            tally.close()\n",
    ),
    Mistake(
        "changes come before the RESYNC is accepted",
        "syncbase/delivery.py",
        "                sub.resync = event.reason\n            sub.base = None",
        "                sub.resync = None\n            sub.base = None",
    ),
    Mistake(
        "a view does not wait for its revision",
        "syncbase/shell.py",
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
        "syncbase/delivery.py",
        "[change.anew() for change in batch.changes",
        "[change for change in batch.changes",
    ),
    Mistake(
        "an exception of one's own ends a source for good",
        "syncbase/feed.py",
        "                except BaseException as error:\n                    await self._pause(failure(error))",
        "                except Exception as error:\n                    await self._pause(failure(error))",
    ),
    Mistake(
        "what is overdue settles as accepted",
        "syncbase/delivery.py",
        "sub.batch.answer(Verdict.OVERDUE, _NO_REASONS)",
        "sub.batch.answer(Verdict.ACCEPTED, _NO_REASONS)",
    ),
    Mistake(
        "a watch that is registered while running is shown what is known, however old",
        "syncbase/core.py",
        "(layer.fresh >= registered and scope in layer.complete)",
        "(scope in layer.complete)",
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
]


@pytest.mark.once
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_simulation_finds_it(mistake: Mistake, tmp_path: Path) -> None:
    package = tmp_path / "datasync"
    shutil.copytree(Path(datasync.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    file = package / mistake.file
    text = file.read_text()
    assert text.count(mistake.right) == 1, "the engine has changed: plant the mistake anew"
    file.write_text(text.replace(mistake.right, mistake.wrong))
    hunt = subprocess.run(
        [sys.executable, "-c", _HUNT, str(mistake.start)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert hunt.returncode == 3, f"{hunt.returncode} after {_SEEDS} seeds from {mistake.start}: {hunt.stderr[-800:]}"
