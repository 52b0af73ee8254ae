"""The panels of the application: what they show, and what they answer."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from datasync.panels import Panel, UnknownQuestion
from datasync.restsync._limits import Limits
from datasync.restsync._problems import Problem
from datasync.restsync._requests import Exchange, needs_json, not_allowed

__all__ = ["PANEL", "JoinedPanels", "PanelAnswers"]

PANEL = "/v1/panels/"
"""What the path of a panel begins with."""


class JoinedPanels(Mapping[str, Panel]):
    """The panels of several DataSyncs by name, as they are by now. One whose name an earlier one
    has gets a number, as in `reconcile-2`.

    of_each: those of each DataSync.
    """

    def __init__(self, of_each: Collection[Mapping[str, Panel]]) -> None:
        self._of_each = of_each

    def _all(self) -> dict[str, Panel]:
        panels: dict[str, Panel] = {}
        for each in self._of_each:
            for name, panel in each.items():
                numbered = (f"{name}-{number}" for number in itertools.count(2))
                free = (one for one in itertools.chain([name], numbered) if one not in panels)
                panels[next(free)] = panel
        return panels

    def __getitem__(self, name: str) -> Panel:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return sum(map(len, self._of_each))


class PanelAnswers:
    """Requests for panels.

    panels: by name, as they are by now.
    """

    def __init__(self, panels: Mapping[str, Panel], limits: Limits) -> None:
        self._panels = panels
        self._limits = limits

    @property
    def names(self) -> Iterable[str]:
        """Of those that there are, in order."""
        return sorted(self._panels)

    async def answer(self, exchange: Exchange, path: str) -> None:
        """GET /v1/panels/NAME, POST /v1/panels/NAME/QUESTION. Raises `Problem`."""
        name, asks, question = path.removeprefix(PANEL).partition("/")
        panel = self._panels.get(name)
        if panel is None:
            raise Problem(404, "NoSuchPanel", f"there is no panel {name!r} here")
        shown = await (
            self._ask(exchange, panel, question) if asks else self._show(exchange, panel)
        )
        await exchange.answer_json(shown, headers=[(b"cache-control", b"no-store")])

    async def _show(self, exchange: Exchange, panel: Panel) -> Any:
        if exchange.method not in ("GET", "HEAD"):
            raise not_allowed("GET, HEAD")
        about = exchange.query("about").one("about")
        return {"blocks": list(panel.blocks(about or ""))}

    async def _ask(self, exchange: Exchange, panel: Panel, question: str) -> Any:
        if exchange.method != "POST":
            raise not_allowed("POST")
        exchange.query()
        needs_json(exchange)
        body = await exchange.body(self._limits.state)
        try:
            return await panel.answer(question, body)
        except UnknownQuestion:
            raise Problem(
                404, "NoSuchQuestion", f"the panel {panel.name} does not answer {question!r}"
            ) from None
