"""Deliberate mistakes, planted one at a time in a file of the engine:
the simulation has to find each.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import datasync

_SEEDS = 400
_HUNT = f"""
import importlib.util
import sys
start, name, file = int(sys.argv[1]), sys.argv[2], sys.argv[3]

class Planted: # all other modules are those of the engine
    @staticmethod
    def find_spec(wanted, path, target=None):
        return importlib.util.spec_from_file_location(name, file) if wanted == name else None

sys.meta_path.insert(0, Planted)
from datasync.testing.simulation.__main__ import check_seed
assert sys.modules[name].__file__ == file
for seed in range(start, start + {_SEEDS}):
    found = check_seed(seed)[1]
    if found:
        print(seed, *sorted({{violation.validator for violation in found}}))
        sys.exit(3)
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
        "syncbase/outstanding.py",
        "            box.dirty.update(\n",
        "            dict.fromkeys(\n",
    ),
    Mistake(
        "a dirty key that is back where it was is not delivered",
        "syncbase/mailbox.py",
        "                if key in dirty\n                or (old is not new",
        "                if (old is not new",
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
        "        self.fold()\n        behind = self.behind\n",
        "        self.groups.clear()\n        self.fold()\n        behind = self.behind\n",
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
        "        box.add(Group(self.delivery.seq, revision, source, diffs, tally, mixed))\n",
        "        for diff in diffs:\n"
        "            box.add(Group(self.delivery.seq, revision, source, [diff], None, mixed))\n"
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
        "[change.undecoded() for change in self.batch.changes",
        "[change for change in self.batch.changes",
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
        "self.batch.answer(Verdict.OVERDUE, NO_REASONS)",
        "self.batch.answer(Verdict.ACCEPTED, NO_REASONS)",
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
        start=23_950,
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
    Mistake(
        "nobody is ever overdue",
        "syncbase/delivery.py",
        "            case Wait.ACK | Wait.READER:\n                self._pass_by(sub)",
        "            case Wait.ACK | Wait.READER:\n                pass",
    ),
    Mistake(
        "a retry is waited for without an end",
        "syncbase/delivery.py",
        "            case Wait.RETRY:\n                self.pump(sub)",
        "            case Wait.RETRY:\n                pass",
    ),
    Mistake(
        "a watch that was overdue stays so",
        "syncbase/subscriber.py",
        "        self.skipped = skipped\n        if skipped",
        "        self.skipped = skipped if self.skipped is not Skipped.HANDLER else self.skipped\n        if skipped",
        start=200,
    ),
]


@pytest.mark.once
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_simulation_finds_it(mistake: Mistake, tmp_path: Path) -> None:
    text = (Path(datasync.__file__).parent / mistake.file).read_text()
    assert text.count(mistake.right) == 1, "the engine has changed: plant the mistake again"
    planted = tmp_path / "planted.py"
    planted.write_text(text.replace(mistake.right, mistake.wrong))
    module = f"datasync.{mistake.file.removesuffix('.py').replace('/', '.')}"
    hunt = subprocess.run(
        [sys.executable, "-c", _HUNT, str(mistake.start), module, str(planted)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert hunt.returncode == 3, (
        f"{hunt.returncode} after {_SEEDS} seeds from {mistake.start}: {hunt.stderr[-800:]}"
    )
