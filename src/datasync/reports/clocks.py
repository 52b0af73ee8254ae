"""How far the clocks of agents are behind the one here, for those who judge by reports whether who
wrote them is alive.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

__all__ = ["Clocks"]


class Clocks:
    """Goes by the reports that are seen as they come; of an agent that was not seen to report it is
    taken that the clocks agree.

    wall: the clock here, in seconds since the epoch.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._behind: dict[str, float] = {}

    def reported(self, agent: str, time: float) -> None:
        """An agent reports just now, at this time by its own clock."""
        self._behind[agent] = self._wall() - time

    def gone(self, agent: str) -> None:
        """Its report is there no more."""
        self._behind.pop(agent, None)

    def stay(self, agents: Collection[str]) -> None:
        """The reports of these are there, and of no others."""
        self._behind = {name: by for name, by in self._behind.items() if name in agents}

    def behind(self, agent: str) -> float:
        """Seconds that its clock is behind."""
        return self._behind.get(agent, 0.0)
