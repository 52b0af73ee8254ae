"""The keys of one DataSync: where they live in its sources, and what may name one."""

from __future__ import annotations

import msgspec

from datasync.checks import check_key, check_prefix, is_utf8
from datasync.errors import BadPrefix, UsageError
from datasync.rooted import Rooted
from datasync.scopes import is_prefix
from datasync.source import Source

__all__ = ["KeySpace"]

_LABELS = "/vnf-agent/"


class KeySpace(msgspec.Struct, frozen=True):
    """All keys of the sources, or those below `root`, which are named relative to it."""

    root: str = ""
    reports: str | None = None
    """The prefix that the DataSync reports to, where a watch of it could see that."""

    @classmethod
    def of(cls, label: str | None, prefix: str | None) -> KeySpace:
        """The one that `label=` or `prefix=` asks for. Raises `UsageError`, `BadPrefix`."""
        if label is not None and prefix is not None:
            raise UsageError(
                "label= and prefix= exclude each other; label='x' is prefix='/vnf-agent/x/'"
            )
        if label is not None:
            if not isinstance(label, str) or not label or "/" in label or not is_utf8(label):
                raise BadPrefix(
                    f"the label {label!r} is not a name; write for example label='vpp1'"
                )
            return cls(f"{_LABELS}{label}/")
        if prefix is None:
            return cls()
        check_prefix(prefix)
        return cls(prefix)

    def seen(self, source: Source) -> Source:
        """A source as it is seen from here."""
        return Rooted(source, self.root) if self.root and not source.relative else source

    def check_key(self, key: str) -> None:
        """Raise `BadKey` unless `key` can name a value here."""
        check_key(key, bool(self.root))

    def check_watched(self, scope: str) -> None:
        """Raise `UsageError` where a watch of this would see what the DataSync reports of it."""
        reports = self.reports
        if reports is not None and (
            scope.startswith(reports) or (is_prefix(scope) and reports.startswith(scope))
        ):
            raise UsageError(
                f"a watch of {scope!r} would see the reports of this DataSync, and each would "
                f"bring the next; watch what lies beside {reports!r}, or choose another report_to="
            )

    def check_prefix(self, prefix: str) -> None:
        """Raise `BadPrefix` unless `prefix` is one here."""
        check_prefix(prefix, bool(self.root))
