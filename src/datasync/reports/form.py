"""The form of reports in a store: their keys, their JSON and their digests (docs/reports.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from datasync.outcome import Verdict
from datasync.report import KeyReport, LayerReport, WatchReport

__all__ = [
    "Answer",
    "Digest",
    "KeyAnswer",
    "OpenKeys",
    "Place",
    "Progress",
    "Ticket",
    "decode_answer",
    "decode_progress",
    "decode_record",
    "decode_ticket",
    "digest_of",
    "encode",
    "rank_of",
]


T = TypeVar("T")

_RANKED = (
    Verdict.ACCEPTED,
    Verdict.PENDING,
    Verdict.UNWATCHED,
    Verdict.SUPERSEDED,
    Verdict.REFUSED,
    Verdict.FAILED,
    Verdict.OVERDUE,
    Verdict.ABSENT,
)
_RANK = {verdict: rank for rank, verdict in enumerate(_RANKED)}


class Place(msgspec.Struct, frozen=True):
    """Where reports lie: below a prefix, which ends in a slash."""

    prefix: str

    @property
    def all_progress(self) -> str:
        """Below it is the progress of each agent."""
        return f"{self.prefix}progress/"

    @property
    def all_open(self) -> str:
        """Below it are the open keys of each agent."""
        return f"{self.prefix}open/"

    def progress(self, agent: str) -> str:
        """The key of an agent's progress."""
        return f"{self.prefix}progress/{agent}"

    @property
    def all_tickets(self) -> str:
        """Below it are the tickets of all writers."""
        return f"{self.prefix}tickets/"

    def ticket(self, number: str) -> str:
        """The key of a ticket."""
        return f"{self.prefix}tickets/{number}"

    @property
    def all_answers(self) -> str:
        """Below it are the answers to all tickets."""
        return f"{self.prefix}answers/"

    def answers(self, number: str) -> str:
        """Below it are the answers to a ticket, or to all of one writer."""
        return f"{self.prefix}answers/{number}/"

    def open(self, agent: str) -> str:
        """Below it are the open keys of one agent."""
        return f"{self.prefix}open/{agent}/"


class OpenKeys(msgspec.Struct, frozen=True):
    """Which records belong to a progress.

    count: how many.
    digest: of all of them, see `Digest`.
    """

    count: int
    digest: str


class Progress(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="format",
    tag="datasync.progress/1",
):
    """How far an agent is; the fields are those of `Report`."""

    agent: str
    instance: str
    time: float
    lease: float
    open: OpenKeys
    layers: list[LayerReport]
    scopes: list[str]
    more_scopes: int = 0
    watches: list[WatchReport] = []
    stopped: bool = False
    rival: str | None = None


class OpenRecord(
    msgspec.Struct, frozen=True, tag_field="format", tag="datasync.open/1", omit_defaults=True
):
    """A key that is not simply applied; the fields are those of `KeyReport`."""

    key: str
    verdict: str
    reason: str
    digest: str | None
    since: float
    watch: str
    attempt: int = 1


class Ticket(
    msgspec.Struct, frozen=True, tag_field="format", tag="datasync.ticket/1", omit_defaults=True
):
    """What a writer wants to know.

    keys: those that were written, whole, each with the digest of its value; None for a delete.
    timeout: seconds that the writer waits.
    deadline: until when, by the writer's clock, in seconds since the epoch.
    revisions: those of the keys, where the ticket is written after them and each has its own.
    agents: who is asked; None for all.
    """

    keys: dict[str, str | None]
    timeout: float
    deadline: float
    revisions: dict[str, int] = {}
    agents: list[str] | None = None


class KeyAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one key.

    verdict: a `Verdict` value.
    """

    verdict: str
    reason: str = ""


class Answer(msgspec.Struct, frozen=True, tag_field="format", tag="datasync.answer/1"):
    """What an agent answers to a ticket, for each of its keys."""

    agent: str
    keys: dict[str, KeyAnswer]


class Digest:
    """The XOR of the SHA-256 of each record: of its key, as far as it goes on after the name of
    the agent and a slash, a zero byte, and its value.

    It can be kept up to date record by record, in any order.
    """

    def __init__(self) -> None:
        self._sum = 0
        self._count = 0

    def add(self, key: str, raw: bytes) -> None:
        """A record is there."""
        self._sum ^= _number_of(key, raw)
        self._count += 1

    def remove(self, key: str, raw: bytes) -> None:
        """A record that was there is gone."""
        self._sum ^= _number_of(key, raw)
        self._count -= 1

    @property
    def value(self) -> OpenKeys:
        """Number and digest."""
        return OpenKeys(self._count, f"{self._sum:064x}")


def _number_of(key: str, raw: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"%b\0%b" % (key.encode(), raw)).digest())


_encode = msgspec.json.Encoder().encode


def _decoder(kind: type[T]) -> Callable[[bytes], T]:
    """From JSON to that kind. Raises `ValueError`, which not all versions of msgspec do, where it
    is not one, or of a form that is not known here.
    """
    decode = msgspec.json.Decoder(kind).decode

    def decoded(raw: bytes) -> T:
        try:
            return decode(raw)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from None

    return decoded


_decode_record = _decoder(OpenRecord)
decode_progress = _decoder(Progress)
decode_ticket = _decoder(Ticket)
decode_answer = _decoder(Answer)


def digest_of(raw: bytes | None) -> str | None:
    """As reports and tickets name a value; None where there is none."""
    return None if raw is None else hashlib.sha256(raw).hexdigest()


def rank_of(verdict: Verdict) -> int:
    """How bad a verdict of an agent is, from 0: it is accepted."""
    return _RANK[verdict]


def encode(told: Progress | KeyReport | Ticket | Answer) -> bytes:
    """As it is stored."""
    if isinstance(told, KeyReport):
        return _encode(OpenRecord(**msgspec.structs.asdict(told)))
    return _encode(told)


def decode_record(raw: bytes) -> KeyReport:
    """Raises `ValueError`, as the others do."""
    fields: dict[str, Any] = msgspec.structs.asdict(_decode_record(raw))
    return KeyReport(**fields)
