"""Whether another agent reports by the same name, as its own reports show."""

from __future__ import annotations

from datasync.reports.form import Progress

__all__ = ["Rivals"]


class Rivals:
    """What lies there under the name of an agent, and is of another instance, may be left of an
    earlier life, come with a backup of the store, or have been under way when that life ended. Who
    goes on reporting is alive.

    patience: seconds after which one who reports no more is forgotten.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._seen: Progress | None = None
        """What was found of another instance last."""
        self._rival: str | None = None
        self._at = 0.0

    def see(self, there: Progress, now: float) -> bool:
        """That is what another instance reported. Whether it is a rival that was not known."""
        before, self._seen = self._seen, there
        if before is None or before.instance != there.instance or there.time <= before.time:
            return False
        known, self._rival, self._at = self._rival, there.instance, now
        return known != there.instance

    def known(self, now: float) -> str | None:
        """The instance of another agent by this name that is alive."""
        if self._rival is not None and now > self._at + self._patience:
            self._rival = None
        return self._rival
