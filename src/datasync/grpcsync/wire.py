"""Between messages of our own service and what datasync knows: frames,
transactions, verdicts and errors."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from datasync import errors
from datasync.capabilities import Capabilities
from datasync.checks import check_key, check_operations, check_prefix
from datasync.codec.shared import UNDECODABLE
from datasync.connecting import too_large
from datasync.endpoints import MAX_ANSWER
from datasync.errors import BadValue, Conflict, DataSyncError, Disconnected, OutcomeUnknown
from datasync.grpcsync import datasync_pb2 as pb
from datasync.outcome import KeyOutcome, Verdict
from datasync.source import (
    Check,
    Commit,
    Committed,
    Delete,
    Frame,
    Operation,
    Progress,
    Put,
    Result,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
)
from datasync.traceparent import carried

__all__ = [
    "CAPABILITIES", "CHANGED", "HISTORY", "MAX_MESSAGE", "PIECE", "FrameReader", "capabilities_of",
    "capabilities_text", "columns", "committed_of", "encode", "error_of", "exception_of",
    "items_of", "operations_of", "pieces", "reply_of", "request_of", "result_of",
]  # fmt: skip

MAX_MESSAGE = 16 << 20
"""Bytes of one message that either side takes: the limit of one value, and of one transaction."""
_BESIDE = 128
"""Bytes that a change takes beside its key and value."""
PIECE = 512 << 10
"""Bytes, about, after which a message to a watcher is full; one value may be larger."""

CAPABILITIES = "datasync-capabilities"
"""The metadata in which a server tells its watchers what the source can promise."""

HISTORY, CHANGED = "datasync-history", "changed"
"""The metadata after a watch that ended because the source has another
history, and what it says."""

_ERRORS: dict[str, type[DataSyncError]] = {
    name: getattr(errors, name)
    for name in (
        "BadKey", "BadPrefix", "BadStore", "BadValue", "Disconnected", "NotReady",
        "OutcomeUnknown", "Unauthorized", "UnsupportedOption",
    )
}  # fmt: skip
_VERDICTS = {
    pb.Verdict.Value(verdict.name): verdict
    for verdict in Verdict
    if verdict.name in pb.Verdict.keys()  # noqa: SIM118 - no mapping
}


# -- frames ----------------------------------------------------------------------------------------


def encode(frame: Frame) -> Sequence[bytes]:
    """The frame as serialized `WatchReply` messages. Several of them,
    joined, are one message again."""
    match frame:
        case Commit(position, revision, changes):
            return _encode_commit(position, revision, changes)
        case SnapshotChunk(items):
            cuts = pieces([len(key) + len(raw) for key, raw, _ in items])
            return [_frame(chunk=columns(items[start:end])) for start, end in cuts]
        case SnapshotBegin(scopes):
            return [_frame(begin=pb.SnapshotBegin(scopes=scopes))]
        case SnapshotEnd(position, revision, history):
            return [
                _frame(end=pb.SnapshotEnd(position=position, revision=revision, history=history))
            ]
        case Progress(position, revision):
            return [_frame(progress=pb.Progress(position=position, revision=revision))]


def _encode_commit(
    position: str, revision: int, changes: Sequence[tuple[str, bytes | None]]
) -> Sequence[bytes]:
    messages = []
    for start, end in pieces([len(key) + len(raw or b"") for key, raw in changes]):
        part = changes[start:end]
        puts = [(key, raw) for key, raw in part if raw is not None]
        commit = pb.Commit(
            position=position,
            revision=revision,
            keys=[key for key, _ in puts],
            values=[raw for _, raw in puts],
            deleted=[key for key, raw in part if raw is None],
            more=end < len(changes),
        )
        messages.append(_frame(commit=commit))
    return messages


def _frame(
    *,
    begin: pb.SnapshotBegin | None = None,
    chunk: pb.Items | None = None,
    end: pb.SnapshotEnd | None = None,
    commit: pb.Commit | None = None,
    progress: pb.Progress | None = None,
) -> bytes:
    frame = pb.Frame(begin=begin, chunk=chunk, end=end, commit=commit, progress=progress)
    return pb.WatchReply(frames=[frame]).SerializeToString()


def pieces(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Where to cut, so that no piece is much larger than PIECE; a single
    one where there is nothing."""
    cuts, start, size = [], 0, 0
    for at, one in enumerate(sizes):
        if size and size + one > PIECE:
            cuts.append((start, at))
            start, size = at, 0
        size += one + 16
    cuts.append((start, len(sizes)))
    return cuts


def columns(items: Sequence[tuple[str, bytes, int]]) -> pb.Items:
    """The columns of the rows."""
    return pb.Items(
        keys=[key for key, _, _ in items],
        values=[raw for _, raw, _ in items],
        revisions=[at for _, _, at in items],
    )


def items_of(items: pb.Items, server: str) -> list[tuple[str, bytes, int]]:
    """The rows of the columns. Raises `Disconnected`."""
    try:
        return list(zip(items.keys, items.values, items.revisions, strict=True))
    except ValueError:  # columns of different lengths
        raise _broken(server) from None


def _broken(server: str) -> Disconnected:
    return Disconnected(
        f"{server}: it sent something that is not an answer of datasync; check the server"
    )


class FrameReader:
    """Makes frames of what a watch receives, and puts transactions that came in pieces together.
    server: its name, for errors.
    most: bytes that one transaction may have."""

    def __init__(self, server: str = "", most: int = MAX_ANSWER) -> None:
        self._server = server
        self._most = most
        self._size = 0
        self._changes: list[tuple[str, bytes | None]] = []

    def frames(self, reply: pb.WatchReply) -> list[Frame]:
        """The frames that are complete with this message. Raises
        `AnswerTooLarge`, `Disconnected`."""
        frames: list[Frame] = []
        for frame in reply.frames:
            match frame.WhichOneof("kind"):
                case "commit":
                    self._commit(frame.commit, frames)
                case "chunk":
                    frames.append(SnapshotChunk(items_of(frame.chunk, self._server)))
                case "begin":
                    frames.append(SnapshotBegin(list(frame.begin.scopes)))
                case "end":
                    end = frame.end
                    frames.append(SnapshotEnd(end.position, end.revision, end.history))
                case "progress":
                    frames.append(Progress(frame.progress.position, frame.progress.revision))
        return frames

    def _commit(self, commit: pb.Commit, frames: list[Frame]) -> None:
        if len(commit.keys) != len(commit.values):
            raise _broken(self._server)
        changes: list[tuple[str, bytes | None]] = [*zip(commit.keys, commit.values, strict=True)]
        if commit.deleted:
            changes += [(key, None) for key in commit.deleted]
        if self._changes:
            changes = self._changes + changes
            self._changes = []
        if commit.more:
            self._changes = changes
            self._size += commit.ByteSize() + _BESIDE * len(changes)
            if self._size > self._most:
                raise too_large(self._server, self._most)
        else:
            self._size = 0
            frames.append(Commit(commit.position, commit.revision, changes))


# -- transactions ----------------------------------------------------------------------------------


def request_of(number: int, operations: Sequence[Operation], *, reply: bool) -> bytes:
    """One transaction as a serialized `CommitRequests` message, with the trace of the write that is
    under way. Several of them, joined, are one message again. Raises `BadValue` where it is too
    large."""
    puts = [operation for operation in operations if type(operation) is Put]
    message = pb.CommitRequests()
    request = message.commits.add(  # made in its place, for one that is added later is copied
        id=number,
        keys=[put.key for put in puts],
        values=[put.raw for put in puts],
        reply=reply,
        traceparent=carried(),
    )

    if any(put.ttl is not None for put in puts):
        request.ttls.extend(put.ttl or 0.0 for put in puts)
    if len(puts) < len(operations):
        for operation in operations:
            if type(operation) is Delete:
                request.deletes.add(key=operation.key, prefix=operation.prefix)
            elif type(operation) is Check:
                request.checks.add(key=operation.key, revision=operation.revision)

    raw = message.SerializeToString()
    if len(raw) > MAX_MESSAGE - 64:
        largest = max(puts, key=lambda put: len(put.raw), default=None)
        key = "" if largest is None else f"; the largest value is that of {largest.key!r}"
        raise BadValue(
            f"{len(raw):,} bytes are more than one transaction takes, {MAX_MESSAGE:,}{key}; write "
            "less at a time"
        )
    return raw


def operations_of(request: pb.CommitRequest) -> list[Operation]:
    """What the request asks for, checked. Raises `BadKey`, `BadPrefix`, `BadValue`."""
    keys, values, ttls = request.keys[:], request.values[:], request.ttls
    if len(keys) != len(values) or len(ttls) not in (0, len(keys)):
        raise BadValue(
            "keys, values and ttls differ in number; send a value for each key, and a ttl for "
            "each or none"
        )

    operations: list[Operation] = [Check(check.key, check.revision) for check in request.checks]
    if ttls:
        if not all(0 <= ttl < float("inf") for ttl in ttls):
            raise BadValue("a ttl is a positive number of seconds, or 0 for none")
        operations += [
            Put(key, raw, ttl or None) for key, raw, ttl in zip(keys, values, ttls, strict=True)
        ]
    else:
        operations += map(Put, keys, values)

    operations += [Delete(delete.key, delete.prefix) for delete in request.deletes]
    for delete in request.deletes:
        if delete.prefix:
            check_prefix(delete.key)
        else:
            keys.append(delete.key)
    keys += [check.key for check in request.checks]

    if not all(keys):  # parsing has seen to all else: they are UTF-8
        check_key("", rooted=False)
    if request.deletes or len(set(keys)) < len(keys):  # else nothing can be at odds
        check_operations(operations)
    return operations


def committed_of(reply: pb.CommitReply) -> Committed:
    """What a transaction did; the verdict is another matter."""
    return Committed(reply.revision if reply.HasField("revision") else None, list(reply.existed))


def reply_of(number: int, committed: Committed, result: Result | None) -> pb.CommitReply:
    """The answer to a transaction, with the verdict where it is known."""
    revision, existed = committed.revision, committed.existed
    if result is None:
        return pb.CommitReply(id=number, revision=revision, existed=existed)
    verdict = result.verdict.name
    # of the refused keys the reasons tell all
    outcomes = {
        key: pb.KeyOutcome(verdict=said.verdict.name, reason=said.reason)
        for key, said in result.outcomes.items()
        if said.verdict is not Verdict.REFUSED
    }
    return pb.CommitReply(
        id=number, revision=revision, existed=existed, verdict=verdict, reasons=result.reasons,
        outcomes=outcomes,
    )  # fmt: skip


def result_of(reply: pb.CommitReply) -> Result | None:
    """The verdict, where the message has it. Raises `OutcomeUnknown` for one that is not known
    here.
    """
    if reply.verdict == pb.UNKNOWN:
        return None
    outcomes = {key: KeyOutcome(Verdict.REFUSED, why) for key, why in reply.reasons.items()}
    for key, said in reply.outcomes.items():
        outcomes[key] = KeyOutcome(_verdict_of(said.verdict), said.reason)
    return Result(_verdict_of(reply.verdict), outcomes)


def _verdict_of(code: int) -> Verdict:
    verdict = _VERDICTS.get(code)
    if verdict is None:
        raise OutcomeUnknown(
            f"written, but the verdict of the watches, {code}, is not known here; update datasync"
        )
    return verdict


# -- errors ----------------------------------------------------------------------------------------


def error_of(error: DataSyncError) -> pb.Error:
    """An error, to be sent."""
    if isinstance(error, Conflict):
        return pb.Error(name="Conflict", message=str(error), key=error.key, revision=error.expected)
    name = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS), "")
    return pb.Error(name=name, message=str(error))


def exception_of(error: pb.Error) -> DataSyncError:
    """The same error on the other side; one that it does not know is a plain `DataSyncError`."""
    if error.name == "Conflict":
        return Conflict(error.key, error.revision)
    return _ERRORS.get(error.name, DataSyncError)(error.message)


# -- capabilities ----------------------------------------------------------------------------------


def capabilities_text(capabilities: Capabilities) -> str:
    """What a watcher may rely on, to be sent."""
    return msgspec.json.encode(capabilities).decode()


def capabilities_of(text: str | bytes | None) -> Capabilities | None:
    """The same on the other side; None where the server does not say, or not
    in a way that is known here."""
    try:
        return None if text is None else msgspec.json.decode(text, type=Capabilities)
    except UNDECODABLE:
        return None
