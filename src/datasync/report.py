"""What an agent reports of itself, as readers see it; docs/reports.md has the form in the store."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import final

import msgspec

from datasync.errors import UsageError
from datasync.source import Source

__all__ = ["STATES", "KeyReport", "LayerReport", "Report", "Reports", "WatchReport", "is_report"]


STATES = (
    "stopped", "well", "open keys", "waiting", "resyncing", "unattended", "overdue", "failing",
    "rival", "lost",
)  # fmt: skip
"""What `Report.state` can be, the gravest last."""


_FORMATS = ("datasync.progress/", "datasync.open/", "datasync.ticket/", "datasync.answer/")
"""What the formats of all that serves reports in a store begin with, in any version."""


class LayerReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far an agent has settled one of its sources.

    name: what the agent calls it.
    revision: the newest commit that every watch has said the outcome of, as of all before it that
        concern it; None before the first RESYNC, and where the source has no one order.
    history: which history of the store that revision belongs to; empty where the source has none.
    """

    name: str
    revision: int | None = None
    history: str = ""


class KeyReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key that is not simply applied.

    key: by the name that the agent has for it.
    verdict: "refused", "failed", "pending" or "overdue".
    reason: why, as the handler said it.
    digest: the SHA-256, in hex, of the value that this is about; None where it is a delete.
    since: since when, in seconds since the epoch.
    watch: the watch that said so; the worst one where several did.
    attempt: the number of the next try, where datasync tries again; else 1.
    """

    key: str
    verdict: str
    reason: str
    digest: str | None
    since: float
    watch: str
    attempt: int = 1


class WatchReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """A watch that does not just follow: what it has not applied may be any key in its scopes.

    name: the watch.
    state: a `WatchState` value.
    scopes: its prefixes and keys.
    reason: the last error; empty where nothing failed.
    since: since when it is failing or overdue, in seconds since the epoch; 0 where it is not.
    attempt: the number of the next try.
    """

    name: str
    state: str
    scopes: list[str]
    reason: str = ""
    since: float = 0.0
    attempt: int = 1


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent has applied, and what not.

    agent: its name.
    instance: changes each time that the agent starts.
    time: when it reported, by its own clock, in seconds since the epoch.
    lease: seconds; an agent that has not reported for longer is gone, or cannot reach the store.
    stopped: it was closed in good order.
    rival: the instance of another agent by the same name that reports there too; None where there
        is none.
    layers: how far it has settled each of its sources.
    scopes: what it watches: prefixes and keys, by the names that it has for them.
    more_scopes: how many more these are.
    watches: those of its watches that do not just follow.
    open: the keys that are not simply applied.
    behind: seconds by which its clock is behind that of the reader, who has seen it report; 0 until
        then.
    """

    agent: str
    instance: str
    time: float
    lease: float
    stopped: bool
    rival: str | None
    layers: Sequence[LayerReport]
    scopes: Sequence[str]
    more_scopes: int
    watches: Sequence[WatchReport]
    open: Mapping[str, KeyReport]
    behind: float = 0.0

    @property
    def age(self) -> float:
        """Seconds since it reported. Until it is seen to report, by the clocks of both."""
        return time.time() - self.behind - self.time

    @property
    def alive(self) -> bool:
        """Whether the agent still is what it reported last: it has not been silent for longer than
        its lease.
        """
        return not self.stopped and self.age <= self.lease

    @property
    def well(self) -> bool:
        """Whether all is applied that it watches, up to the positions of its layers."""
        return not (self.open or self.watches)

    @property
    def state(self) -> str:
        """How it stands, in a word: "stopped", "lost" (no sign of life), "rival" (another agent has
        its name), the gravest `WatchState` of its watches that do not just follow, "open keys",
        else "well".
        """
        if self.stopped:
            return "stopped"
        if not self.alive:
            return "lost"
        if self.rival is not None:
            return "rival"
        if self.watches:
            states = [watch.state for watch in self.watches]
            return max(states, key=lambda one: STATES.index(one) if one in STATES else -1)
        return "open keys" if self.open else "well"


@final
class Reports(msgspec.Struct, frozen=True):
    """The agents that a writer asks what became of a write, with `confirm=Reports("status/")`.

    prefix: where they report, by the names of the writer.
    agents: their names; "all" (the default) for each that is alive, or "any": then the first that
        accepts is enough.
    timeout: seconds to wait for their answers; default 10.
    at: the store that they report in, a URL or a `Source`; by default the one that is written to.

    Raises `UsageError`.
    """

    prefix: str
    agents: str | Sequence[str] = "all"
    timeout: float = 10.0
    at: str | Source | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, str):
            raise UsageError(
                f"Reports() takes a prefix as 'status/', got {type(self.prefix).__name__}"
            )
        if "://" in self.prefix:
            raise UsageError(
                "Reports() takes a prefix; name another store by at=, as in Reports('status/', "
                "at='sqlite:///reports.db')"
            )
        if not (self.at is None or isinstance(self.at, str | Source)):
            raise UsageError(f"at= takes a URL or a Source, got {type(self.at).__name__}")
        if isinstance(self.agents, str):
            if self.agents not in ("all", "any"):
                raise UsageError(f"agents= takes 'all', 'any' or a list; write [{self.agents!r}]")
        elif not (isinstance(self.agents, Collection) and all(map(_is_name, self.agents))):
            raise UsageError(f"agents= takes 'all', 'any' or a list of names, got {self.agents!r}")
        elif not self.agents:
            raise UsageError("agents=[] asks nobody; name one, or leave it out to ask all")
        if not isinstance(self.timeout, int | float) or not 0 < self.timeout < float("inf"):
            raise UsageError(f"timeout must be a positive number of seconds, got {self.timeout!r}")

    def __repr__(self) -> str:
        # G11: a URL may hold a password
        at = "" if self.at is None else ", at=..."
        return f"Reports({self.prefix!r}, agents={self.agents!r}, timeout={self.timeout!r}{at})"


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name != ""


class _Marked(msgspec.Struct):
    """What all of these have in common."""

    format: str = ""


def is_report(raw: bytes) -> bool:
    """Whether a stored value is what an agent reports, a ticket or an answer: by its format."""
    if not raw.startswith(b"{") or b"datasync." not in raw:  # almost all that there is
        return False
    try:
        return msgspec.json.decode(raw, type=_Marked).format.startswith(_FORMATS)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
