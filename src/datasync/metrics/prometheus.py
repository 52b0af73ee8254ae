"""For applications that use the Prometheus client library: the metrics of
their DataSyncs in its registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from datasync.errors import MissingExtra
from datasync.metrics import Family, distinct, families_of, parts
from datasync.status import Status, joined

try:
    from prometheus_client import Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise MissingExtra(
        f"this needs the module {error.name}; pip install 'datasync[prometheus]'"
    ) from None

__all__ = ["StatusCollector", "families"]


def families(status: Status) -> Iterator[Metric]:
    """The metrics of one status, with their values."""
    now = distinct(status)
    for family in families_of(now):
        metric = _described(family)
        for suffix, labels, value in parts(family, now):
            metric.add_sample(family.name + suffix, dict(labels), value)
        yield metric


def _described(family: Family) -> Metric:
    return Metric(family.name.removesuffix("_total"), family.about, family.kind)


class StatusCollector(Collector):
    """Reads `DataSync.status` when it is scraped:
    `REGISTRY.register(StatusCollector(sync.status))`.

    One collector takes all DataSyncs of the process; a name that is used twice gets a number.
    """

    def __init__(self, *statuses: Callable[[], Status]) -> None:
        self._statuses = statuses

    def describe(self) -> Iterator[Metric]:
        """The metrics without values: what the registry asks for to find names used twice."""
        return map(_described, families_of(joined(self._statuses)))

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        return families(joined(self._statuses))
