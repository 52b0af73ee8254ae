"""Deliberate mistakes, planted one at a time in a file of the planner: random play finds each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import datasync

_ROOT = Path(__file__).parents[2]
_SEEDS = 400
_HUNT = """
import importlib.util
import sys
name, file, seeds = sys.argv[1], sys.argv[2], int(sys.argv[3])

class Planted: # all other modules are as they are
    @staticmethod
    def find_spec(wanted, path, target=None):
        return importlib.util.spec_from_file_location(name, file) if wanted == name else None

sys.meta_path.insert(0, Planted)
from tests.helpers.reconcile.play import ONCE_BAD, Game, check_seed
assert sys.modules[name].__file__ == file
games = [*ONCE_BAD, *map(Game, range(seeds))]
for game in games:
    try:
        check_seed(**game._asdict())
    except Exception as found:
        print(game, type(found).__name__, found)
        sys.exit(3)
"""


class Mistake(msgspec.Struct, frozen=True):
    """`right` stands once in `file` and becomes `wrong`."""

    name: str
    file: str
    right: str
    wrong: str


MISTAKES = [
    Mistake(
        "made before what it needs is at rest",
        "planner.py",
        "quiet = is_at_rest(slot) and (",
        "quiet = True or (",
    ),
    Mistake(
        "taken down while others stand on it",
        "planner.py",
        "if has_leaving(node) if verb is Verb.UPDATE else node.leaning:",
        "if has_leaving(node) if verb is Verb.UPDATE else verb is Verb.CREATE and node.leaning:",
    ),
    Mistake(
        "the last of those that others chose among goes too early",
        "planner.py",
        "if node.blocks and not freed:",
        "if False:",
    ),
    Mistake(
        "two operations on neighbours at once",
        "planner.py",
        "        if node.busy:\n            self.graph.waiting.park(node, node)\n            return False\n",
        "",
    ),
    Mistake(
        "beyond the limit of a kind",
        "planner.py",
        "if self._count.get(kind, 0) >= kind.limit:",
        "if self._count.get(kind, 0) > kind.limit:",
    ),
    Mistake(
        "after a failure nothing is read",
        "planner.py",
        "        if op.kind.can_retrieve:\n            trouble.uncertain = True",
        "        if False:\n            trouble.uncertain = True",
    ),
    Mistake(
        "an object whose needs are unmet stays",
        "planner.py",
        "return Verb.DELETE if node.unmet else None",
        "return None",
    ),
    Mistake(
        "what was found and stored by nobody is taken down",
        "planner.py",
        "return Verb.DELETE if node.owned else None",
        "return Verb.DELETE",
    ),
    Mistake(
        "an invalid value takes the place of the last valid one",
        "goals.py",
        "        node.problem = Problem(why, value)\n        if",
        "        node.goal, node.problem = value, Problem(why, value)\n        if",
    ),
    Mistake(
        "hope in vain",
        "planner.py",
        "for node in self.outlook.in_vain(self._hoping):",
        "for node in ():",
    ),
    Mistake(
        "an old reading counts more than a newer operation",
        "discovery.py",
        "                if key in newer:\n                    continue\n",
        "",
    ),
    Mistake(
        "what is needed has come, and those who wait are not told",
        "graph.py",
        "if user.have is not ABSENT or user.unmet == told:",
        "if user.have is not ABSENT:",
    ),
    Mistake(
        "what stood on it is forgotten one time too often",
        "graph.py",
        "                if slot not in after:\n                    self.unlean(slot)",
        "                self.unlean(slot)",
    ),
    Mistake(
        "nobody is told that what they waited for has ended",
        "waiting.py",
        "        for node in self._parked.pop(slot, ()):\n            self._wake(node)",
        "        self._parked.pop(slot, ())",
    ),
    Mistake(
        "what goes with its needs is not seen to have gone",
        "graph.py",
        "if was_standing and not choice.standing and choice.need.goes_with:",
        "if False:",
    ),
    Mistake(
        "all that others chose among may go",
        "graph.py",
        "keeps = Keeps.ALL if not choice.firm else Keeps.CHANGING if choice.changing else keeps",
        "keeps = Keeps.CHANGING if choice.changing else keeps",
    ),
    Mistake(
        "an object changes beside those that are to be made again first",
        "graph.py",
        "keeps = Keeps.ALL if not choice.firm else Keeps.CHANGING if choice.changing else keeps",
        "keeps = Keeps.ALL if not choice.firm else keeps",
    ),
    Mistake(
        "an object changes before the parts have gone that it is to have no more",
        "planner.py",
        "if has_leaving(node) if verb is Verb.UPDATE else node.leaning:",
        "if verb is not Verb.UPDATE and node.leaning:",
    ),
    Mistake(
        "after a cancelled operation nothing is read",
        "planner.py",
        "        if op.kind.can_retrieve:\n            self._doubt(",
        "        if False:\n            self._doubt(",
    ),
    Mistake(
        "objects go while a kind that may stand on them was not read",
        "planner.py",
        "if self._awaited and node.next is not Verb.CREATE:",
        "if False:",
    ),
    Mistake(
        "a part stands on what it is a part of only once it is right",
        "goals.py",
        "elif node.family is not None and node.family.parents:",
        "elif False:",
    ),
    Mistake(
        "a part stands on what it is a part of only once it is known for certain",
        "goals.py",
        "elif node.family is not None and node.family.parents:",
        "elif node.family is not None and node.family.parents and is_known(node):",
    ),
    Mistake(
        "what is left alone holds up what is ours",
        "discovery.py",
        "self._stand(node, ())  # it is left alone",
        "pass  # it is left alone",
    ),
    Mistake(
        "an older value that failed for good counts for the newer one",
        "planner.py",
        "is_final = permanent and node.goal is op.goal",
        "is_final = permanent",
    ),
    Mistake(
        "what failed for good stays on what is to go",
        "planner.py",
        "if waits(node) and not self._gives_way(node):",
        "if waits(node):",
    ),
    Mistake(
        "what failed for good meets no needs",
        "planner.py",
        "if is_stuck(node) and stays:",
        "if False:",
    ),
    Mistake(
        "something is made on account of what may have gone",
        "planner.py",
        "doubt = self.graph.doubt_of(slot) if quiet and needed else None",
        "doubt = None",
    ),
    Mistake(
        "what may have gone is taken down",
        "planner.py",
        "doubt = self.graph.doubt(node) or self.graph.doubt_beside(node)",
        "doubt = self.graph.doubt_beside(node)",
    ),
    Mistake(
        "what an object needed before somebody changed it counts",
        "discovery.py",
        "if isinstance(slot, Node) and self._is_part(node, slot)",
        "if isinstance(slot, Node)",
    ),
    Mistake(
        "what could not be read is taken not to be there",
        "discovery.py",
        "if any(is_uncertain(one) or one.kind in self._unread for",
        "if any(is_uncertain(one) for",
    ),
    Mistake(
        "what it stands on is not seen to stand again",
        "graph.py",
        "for _ in below:",
        "for _ in ():",
    ),
    Mistake(
        "hope for what has gone meanwhile",
        "planner.py",
        "if goes and node.held:",
        "if False:",
    ),
    Mistake(
        "a part of what failed for good is taken for what it was to become",
        "graph.py",
        "updates = node.next is Verb.UPDATE and not has_stuck_parent(node)",
        "updates = node.next is Verb.UPDATE",
    ),
    Mistake(
        "what is to be made again first holds up what goes",
        "graph.py",
        "(not bits & CHANGES or node.next is Verb.DELETE)",
        "not bits & CHANGES",
    ),
]


def test_nothing_is_found_without_a_mistake() -> None:
    """A few games, for the hunt itself: test_play plays all of them."""
    planner = Path(datasync.__file__).parent / "reconcile" / "planner.py"
    assert hunt("planner.py", planner, seeds=10) is None


@pytest.mark.apart
@pytest.mark.once
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_each_mistake_is_found(mistake: Mistake, tmp_path: Path) -> None:
    planted = tmp_path / mistake.file
    planted.write_text(_original(mistake).replace(mistake.right, mistake.wrong))

    assert hunt(mistake.file, planted) is not None


def test_each_mistake_can_be_planted() -> None:
    for mistake in MISTAKES:
        _original(mistake)


def _original(mistake: Mistake) -> str:
    text = (Path(datasync.__file__).parent / "reconcile" / mistake.file).read_text()
    assert text.count(mistake.right) == 1, (
        f"{mistake.name}: the planner has changed: plant it again"
    )
    return text


def hunt(file: str, planted: Path, *, seeds: int = _SEEDS) -> str | None:
    """What is found with that in place of the file."""
    name = f"datasync.reconcile.{file.removesuffix('.py')}"
    done = subprocess.run(
        [sys.executable, "-c", _HUNT, name, str(planted), str(seeds)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode in (0, 3), done.stderr
    return done.stdout if done.returncode else None
