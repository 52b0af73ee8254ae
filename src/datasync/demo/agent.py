"""The agent of the demo: two parts, kept in step with a store. This is how
datasync is meant to be used.

`interfaces` and `routes` each watch their own prefix. A route refers to an interface, so
`routes` is registered after `interfaces`: it is resynced after it, and with `after=` it gets
its share of each transaction after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from datasync import Backoff, DataSync, Event, Refused
from datasync.demo.network import INTERFACES, ROUTES, interface_key
from datasync.demo.network_pb2 import Interface, Route

__all__ = ["LABEL", "Agent", "Applied"]

LABEL = "demo"
"""All keys of the agent lie under /vnf-agent/demo/."""


class Applied(NamedTuple):
    """What a part of the agent has done; `refused` is what it has not, and why."""

    part: str
    event: Event[Interface] | Event[Route]
    refused: Mapping[str, str] = {}


class Agent:
    """Use it as `async with agent.sync:`. `tell` is called with all that it applies.

    A real agent would configure something; this one writes down what it would have configured.
    """

    def __init__(self, url: str, tell: Callable[[Applied], None]) -> None:
        self.interfaces: dict[str, Interface] = {}
        self.routes: dict[str, Route] = {}
        # a demo is in a hurry: look for a lost source at least twice a second
        self.sync = sync = DataSync(url, label=LABEL, reconnect=Backoff(maximum=0.5))

        @sync.watcher(INTERFACES, type=Interface)
        async def interfaces(event: Event[Interface]) -> None:
            # a RESYNC has changes too: what differs from all that this part has accepted so far
            for change in event.changes:
                if change.value is None:
                    self.interfaces.pop(change.key, None)
                else:
                    self.interfaces[change.key] = change.value
            tell(Applied("interfaces", event))

        @sync.watcher(ROUTES, type=Route, after=["interfaces"])
        async def routes(event: Event[Route]) -> None:
            refused: dict[str, str] = {}
            for change in event.changes:
                if change.value is None:
                    self.routes.pop(change.key, None)
                elif interface_key(change.value.interface) not in self.interfaces:
                    refused[change.key] = f"there is no interface {change.value.interface}"
                else:
                    self.routes[change.key] = change.value
            tell(Applied("routes", event, refused))
            if refused:
                raise Refused(refused)  # these keys; the others of the event are applied

    def state(self) -> dict[str, Interface | Route]:
        """All that is applied now, by key."""
        return {**self.interfaces, **self.routes}
