"""The handover from one session to the next, which covers more: nothing is missed,
and nothing is shown again.

The next session runs beside the one that is followed. What it brings is kept here until its
snapshot is complete and it has brought all that the other one delivered meanwhile; then the engine
takes over `frames`, and follows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datasync.errors import Disconnected
from datasync.frames import Commit, Frame, Progress, SnapshotBegin, SnapshotChunk, SnapshotEnd
from datasync.outcome import Reply, Result, Verdict
from datasync.scopes import Scopes
from datasync.syncbase.layer import Layer

__all__ = ["Handover", "decline"]

_SHOWN_BY_ANOTHER = Result(Verdict.UNWATCHED)


def decline(frame: Frame) -> None:
    """Leave the verdict on a frame to the other session, which shows the same."""
    if isinstance(frame, Commit | SnapshotEnd) and frame.reply is not None:
        frame.reply(_SHOWN_BY_ANOTHER)


class Handover:
    """What the next session of a layer, over `scopes`, has brought.

    `added`: those that it begins with a snapshot of; all of them, where it could not resume.
    """

    def __init__(self, layer: Layer, scopes: Sequence[str], added: Sequence[str]) -> None:
        self._layer = layer
        self._scopes = Scopes(scopes)
        self._added = Scopes(added)
        self._begin = SnapshotBegin(added)
        self._end: SnapshotEnd | None = None
        self._items: dict[str, tuple[str, bytes, int]] = {}
        self._before: list[Commit] = []
        self._behind: list[Commit] = []
        self._bookmark: Progress | None = None
        self._newest = 0
        self._delivered: dict[str, int] = {}
        self._brought: dict[str, int] = {}
        """The revisions it has brought, by key."""
        self._replies: list[Reply] = []

    @property
    def loaded(self) -> bool:
        """Whether its snapshot is complete."""
        return self._end is not None

    def followed(self, frame: Frame) -> None:
        """The session that is followed has delivered this meanwhile."""
        if type(frame) is not Commit:
            return
        # what that one follows though nobody needs it any more, the next one never brings
        changes = self._scopes.keep(frame.changes)
        if not changes:
            return
        self._newest = frame.revision
        if self._layer.has_revisions and not self._layer.revisions:
            self._delivered.update((key, frame.revision) for key, _ in changes)

    @property
    def level(self) -> bool:
        """Whether it has brought all that the other session has shown by now;
        only revisions can tell.
        """
        layer = self._layer
        if layer.revisions:
            return self._reaches(layer.revision)
        return layer.has_revisions and self._has(self._delivered)

    @property
    def complete(self) -> bool:
        """Whether it has brought all commits in its scopes that the other session has shown
        meanwhile, which is retired and whose bookmarks it has caught up with; true where nothing
        can tell.
        """
        if self._layer.revisions:
            return self._reaches(self._newest)
        return self._has({key: at for key, at in self._delivered.items() if key not in self._added})

    def _reaches(self, revision: int) -> bool:
        brought = [self._bookmark, self._end, *(self._behind or self._before)[-1:]]
        return any(frame is not None and frame.revision >= revision for frame in brought)

    def _has(self, delivered: Mapping[str, int]) -> bool:
        return all(self._brought.get(key, -1) >= revision for key, revision in delivered.items())

    def bring(self, frame: Frame) -> None:
        """The next session has brought this.

        Raises `Disconnected` where it cannot take over any more.
        """
        match frame:
            case Commit():
                self._behind.append(frame)
                self._brought.update((key, frame.revision) for key, _ in frame.changes)
                self._bookmark = None
            case Progress():
                self._bookmark = frame
            case SnapshotBegin(scopes):
                if self.loaded and Scopes(scopes) != self._added:
                    raise Disconnected(f"{self._layer.name}: everything is read again")
                self._end, self._items = None, {}
            case SnapshotChunk(items):
                self._items.update((item[0], item) for item in items)
                self._brought.update((key, revision) for key, _, revision in items)
            case _:  # SnapshotEnd
                if frame.history != self._layer.history:
                    raise Disconnected(f"{self._layer.name}: it has another history by now")
                self._end, self._bookmark = frame, None
                self._before += self._behind
                self._behind = []

    def frames(self) -> Sequence[Frame]:
        """What the engine has yet to take over: all of it stands at, or after,
        what it has been shown already.
        """
        end, layer = self._end, self._layer
        assert end is not None
        position, revision = end.position, max(end.revision, layer.revision)
        frames: list[Frame] = [rest for commit in self._before for rest in self._unseen(commit)]
        behind: list[Commit] = []

        for commit in self._behind:
            if layer.revisions and commit.revision > layer.revision:
                behind.append(commit)  # G4: it is new to everybody, and goes on whole
                continue
            # G3: what is added has to stand where the rest does, or watches of both would travel
            # back
            for key, raw in commit.changes:
                if key in self._added:
                    self._fold(key, raw, commit.revision)
            frames += self._unseen(commit)
            position = commit.position

        # G6: not a round of RESYNCs, for those that are there have missed nothing
        snapshot = SnapshotEnd(
            position, revision, end.history, _all([end.reply, *self._replies]), True, end.final
        )
        frames += [self._begin, SnapshotChunk([*self._items.values()]), snapshot, *behind]
        if self._bookmark is not None:
            frames.append(self._bookmark)
        return frames

    def _fold(self, key: str, raw: bytes | None, revision: int) -> None:
        if raw is None:
            self._items.pop(key, None)
        else:
            self._items[key] = (key, raw, revision)

    def _unseen(self, commit: Commit) -> list[Commit]:
        """What the snapshot does not show of a commit, and the other session
        did not deliver (G2).
        """
        layer, revision = self._layer, commit.revision
        rest = [
            (key, raw)
            for key, raw in commit.changes
            if key not in self._added
            and revision > (layer.revision if layer.revisions else self._delivered.get(key, -1))
        ]
        if rest:
            return [Commit(commit.position, revision, rest, commit.reply, commit.final)]
        if commit.reply is not None and any(key in self._added for key, _ in commit.changes):
            self._replies.append(commit.reply)
        else:
            decline(commit)
        return []


def _all(replies: Sequence[Reply | None]) -> Reply | None:
    asked = [reply for reply in replies if reply is not None]
    if not asked:
        return None

    def reply(result: Result) -> None:
        for one in asked:
            one(result)

    return reply
