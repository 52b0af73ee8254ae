"""Where an agent reports to: which source, below which prefix, by which name."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from datasync.checks import is_utf8
from datasync.errors import UsageError
from datasync.keyspace import KeySpace
from datasync.reports.form import Place
from datasync.source import Source
from datasync.transports import open_url

__all__ = ["Destination"]

_BY_DEFAULT = "status/"
"""The prefix in a source of its own."""


class Destination(msgspec.Struct, frozen=True):
    """Where one agent reports to.

    source: as it is seen from below the root of the agent.
    watched: the agent could watch its reports there.
    elsewhere: it is none of the sources of the agent.
    """

    agent: str
    source: Source
    place: Place
    watched: bool
    elsewhere: bool

    @classmethod
    def of(
        cls,
        report_to: str | Source,
        agent: str | None,
        keys: KeySpace,
        sources: Sequence[tuple[Source, Source]],
        targets: Sequence[Source],
    ) -> Destination:
        """The one that `report_to=` asks for.

        agent: what `agent=` or `label=` says.
        sources: those of the agent, as they were given, and as they are seen from below its root.
        targets: those of them that take its writes, as they are seen.

        Raises `UsageError`, `BadPrefix`, `BadUrl`, `MissingExtra`.
        """
        if agent is None:
            raise UsageError(
                "report_to= needs a name for the agent; give it as agent='vpp1', or label='vpp1'"
            )
        check_agent(agent)
        if isinstance(report_to, str) and "://" not in report_to:
            return cls._beside(report_to, agent, keys, targets)
        if not isinstance(report_to, str | Source):
            raise UsageError(
                "report_to= takes a prefix as 'status/', a URL or a Source, got "
                f"{type(report_to).__name__}"
            )
        source = open_url(report_to) if isinstance(report_to, str) else report_to
        seen = next((seen for given, seen in sources if given is source), None)
        watched = any(given.name == source.name for given, _ in sources)
        to = cls(agent, seen or keys.seen(source), Place(_BY_DEFAULT), watched, seen is None)
        _check_writable(to.source)
        return to

    @classmethod
    def _beside(
        cls, prefix: str, agent: str, keys: KeySpace, targets: Sequence[Source]
    ) -> Destination:
        keys.check_prefix(prefix)
        if not prefix:
            raise UsageError("report_to= needs a prefix of its own; write report_to='status/'")
        if len(targets) != 1:
            raise UsageError(
                f"report_to={prefix!r} lies in the one source that takes the writes, and here "
                f"{len(targets) or 'none'} of several do; name it with write_to=, or report to a "
                "URL of its own"
            )
        _check_writable(targets[0])
        return cls(agent, targets[0], Place(prefix), watched=True, elsewhere=False)


def check_agent(agent: str) -> None:
    """Raise `UsageError` unless an agent can be called so."""
    if not isinstance(agent, str) or not agent or "/" in agent or not is_utf8(agent):
        raise UsageError(
            f"agent={agent!r} is not a name; write text without a slash, as agent='vpp1'"
        )


def _check_writable(source: Source) -> None:
    if not source.capabilities.writable:
        raise UsageError(
            f"{source.name} takes no writes, so no reports either; report to a URL of its own, as "
            "report_to='sqlite:///reports.db'"
        )
