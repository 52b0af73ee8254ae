"""What a trace is made of: one record for everything that was seen, in the
order in which it was seen.

A trace is a list of these records. `dump` and `load` write and read it as
JSON lines, bytes in base64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from datasync.capabilities import Capabilities

__all__ = [
    "AgentDeclared",
    "AgentEnded",
    "AgentSaid",
    "AgentStarted",
    "AgentsHeard",
    "Answered",
    "Asked",
    "Closed",
    "Committed",
    "Compacted",
    "Delivered",
    "Entry",
    "HistoryStarted",
    "KeysReported",
    "OffsetStored",
    "OpenShown",
    "Quiet",
    "Read",
    "Registered",
    "ReportRead",
    "Reported",
    "Requested",
    "Said",
    "Scoped",
    "SessionEnded",
    "SessionFrame",
    "SessionOpened",
    "SourceDeclared",
    "Stalled",
    "Step",
    "Stored",
    "Trace",
    "Viewed",
    "dump",
    "load",
]


class Entry(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="what"):
    """`seq` orders the records of one trace; `at` is the time in seconds of
    the clock of the recorder."""

    seq: int
    at: float


class SourceDeclared(Entry, tag="source"):
    """A source, in the order of the layers, and what it promises."""

    source: str
    capabilities: Capabilities


class HistoryStarted(Entry, tag="history"):
    """The source begins (another) history: at `revision` it holds `items` (key, raw,
    revision) and nothing else."""

    source: str
    history: str = ""
    revision: int = 0
    items: Sequence[tuple[str, bytes, int]] = ()


class Compacted(Entry, tag="compacted"):
    """The source forgets how it came to its present state."""

    source: str


class Committed(Entry, tag="commit"):
    """One atomic commit of the source's newest history. Where the source has no
    revisions, `revision` is 0."""

    source: str
    changes: Sequence[tuple[str, bytes | None]]
    revision: int = 0


class Stored(Entry, tag="stored"):
    """What the store holds at the end, read past the watches: the value of every key."""

    source: str
    values: Mapping[str, bytes]
    revision: int = 0


class SessionOpened(Entry, tag="open"):
    """The engine opened a session. `resume` is the revision it continues
    after, None without one."""

    source: str
    session: int
    scopes: Sequence[str]
    resume: int | None = None
    added: Sequence[str] = ()


class SessionFrame(Entry, tag="frame"):
    """A session handed over a frame: its kind ("begin", "chunk", "end", "commit",
    "progress") and what it carries."""

    source: str
    session: int
    kind: str
    revision: int = 0
    history: str = ""
    scopes: Sequence[str] = ()
    keys: Sequence[str] = ()


class SessionEnded(Entry, tag="ended"):
    """A session, or the attempt to open one (session 0), ended with this
    error; none where it was closed."""

    source: str
    session: int = 0
    error: str = ""


class Registered(Entry, tag="watch"):
    """A watch; the order of these records is the order of registration."""

    watch: str
    scopes: Sequence[str]
    after: Sequence[str] = ()
    ack_timeout: float = 2.0
    resync_timeout: float = 30.0
    stream: bool = False


class Scoped(Entry, tag="scopes"):
    """The watch was widened or narrowed to these scopes."""

    watch: str
    scopes: Sequence[str]


class Closed(Entry, tag="closed"):
    """The watch was closed."""

    watch: str


class Requested(Entry, tag="request"):
    """The application asked for a RESYNC: of one watch, or of all in a
    round where `watch` is empty."""

    watch: str = ""


class Asked(Entry, tag="asked"):
    """The handler is free for the next event: it has returned, or somebody waits in the stream."""

    watch: str


class Step(msgspec.Struct, array_like=True):
    """One change as a watch was given it; `prev` and `raw` are None where there is no value."""

    key: str
    prev: bytes | None
    raw: bytes | None
    revision: int
    source: str = ""


class Delivered(Entry, tag="event"):
    """A watch was given an event: a RESYNC, with `values` by scope (key, raw,
    revision, source), or else a CHANGE."""

    watch: str
    event: int
    changes: Sequence[Step]
    values: Mapping[str, Sequence[tuple[str, bytes, int, str]]] | None = None
    reason: str = ""
    revision: int = 0
    source: str = ""
    attempt: int = 1
    commits: int = 1
    undecodable: Sequence[str] = ()

    @property
    def is_resync(self) -> bool:
        """Whether it is a RESYNC."""
        return self.values is not None


class Read(Entry, tag="read"):
    """A handler read a value of its event, stored as `raw`: what it got, put into bytes
    again. It may edit it next."""

    watch: str
    key: str
    raw: bytes
    value: bytes


Said = tuple[str, str]
"""What was said of one key: the value of a `Verdict`, and the reason."""


class Reported(Entry, tag="report"):
    """What the handler said of an event: "accepted", "refused" (with the reasons by key), "failed",
    or "undecodable" (with the key that does not decode). Of one that it accepted or refused,
    `outcomes` has what it said of other keys than the refused ones."""

    watch: str
    event: int
    outcome: str
    reasons: Mapping[str, str] = {}
    outcomes: Mapping[str, Said] = {}


class KeysReported(Entry, tag="report-keys"):
    """What a watch said later of keys, of which those that are open are meant."""

    watch: str
    outcomes: Mapping[str, Said]


class OpenShown(Entry, tag="open-keys"):
    """The open keys of a watch, as the status shows them."""

    watch: str
    keys: Mapping[str, Said]


class Answered(Entry, tag="verdict"):
    """A publisher heard what became of its write, which it began when the
    trace stood at `began`."""

    source: str
    keys: Sequence[str]
    began: int
    verdict: str
    revision: int = 0
    reasons: Mapping[str, str] = {}
    opened: Mapping[str, Said] = {}


class OffsetStored(Entry, tag="offset"):
    """A group of consumers noted at the source that everything up to `revision` is done."""

    source: str
    revision: int


class Viewed(Entry, tag="view"):
    """A view of `scope` was read, when the source named had to be at `revision` at least in it."""

    scope: str
    values: Mapping[str, bytes]
    source: str = ""
    revision: int = 0


class AgentDeclared(Entry, tag="agent"):
    """An agent that watches these scopes of the source, and reports below the prefix `place`: of
    it, or of the source `store`, which is another one."""

    source: str
    agent: str
    scopes: Sequence[str]
    place: str
    store: str = ""


class AgentStarted(Entry, tag="agent-started"):
    """One of its lives began at the time `since`; it reports as this instance. Its clock is so many
    seconds ahead."""

    agent: str
    life: str
    instance: str
    since: float
    ahead: float = 0.0


class AgentEnded(Entry, tag="agent-ended"):
    """That life has ended, in order or not; all of them where none is named."""

    agent: str
    life: str = ""


class AgentSaid(Entry, tag="agent-said"):
    """What its watch says, in one of its lives, of what it was shown: of each key and its value; of
    all that it watches, so that no other key is there, where it is `whole`. `said` has what it did
    not simply apply. With `failed` the whole event has failed, for that reason."""

    agent: str
    life: str
    values: Mapping[str, bytes | None]
    said: Mapping[str, Said] = {}
    whole: bool = False
    failed: str = ""


class AgentsHeard(Entry, tag="agents-heard"):
    """A writer that asked agents ("all", "any", or these) at the time `since` heard what became of
    these values: of each key that was not accepted the verdict, the reason and the agent.

    It follows what they report since the time `follows`; its clock is so many seconds `ahead`.
    `calm`: all faults had ended before."""

    values: Mapping[str, bytes | None]
    agents: str | Sequence[str]
    since: float
    timeout: float
    outcomes: Mapping[str, tuple[str, str, str]] = {}
    follows: float = 0.0
    ahead: float = 0.0
    calm: bool = False


class ReportRead(Entry, tag="report-read"):
    """A reader believed a report, with these records of open keys."""

    reader: str
    agent: str
    instance: str
    time: float
    records: Mapping[str, bytes] = {}


class Stalled(Entry, tag="stalled"):
    """The loop stood still from `since` until now, as on a machine that is overloaded: what came
    due meanwhile, a report and the end of its time, was handled in any order."""

    since: float


class Quiet(Entry, tag="quiet"):
    """All faults have ended and everything had the time to settle: from here on the
    watches agree with the store."""


Record = (
    AgentDeclared
    | AgentEnded
    | AgentSaid
    | AgentStarted
    | AgentsHeard
    | ReportRead
    | SourceDeclared
    | HistoryStarted
    | Compacted
    | Committed
    | Stored
    | SessionOpened
    | SessionFrame
    | SessionEnded
    | Registered
    | Scoped
    | Closed
    | Requested
    | Asked
    | Delivered
    | Read
    | Reported
    | KeysReported
    | OpenShown
    | Answered
    | OffsetStored
    | Viewed
    | Stalled
    | Quiet
)
Trace = Sequence[Record]

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def dump(trace: Iterable[Record]) -> bytes:
    """The trace as JSON lines."""
    return _encoder.encode_lines(trace)


def load(data: bytes) -> list[Record]:
    """Read back what `dump` wrote. Raises `msgspec.DecodeError` for anything else."""
    return _decoder.decode_lines(data)
