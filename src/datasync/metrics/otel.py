"""For applications that use OpenTelemetry: the metrics of their DataSyncs
as observable instruments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from datasync.errors import MissingExtra
from datasync.metrics import FAMILIES, Family, distinct
from datasync.status import Status, joined

try:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter
except ModuleNotFoundError as error:
    raise MissingExtra(
        f"this needs the package {error.name}; pip install 'datasync[otel]'"
    ) from None

__all__ = ["observe"]


def observe(*statuses: Callable[[], Status], meter: Meter | None = None) -> None:
    """Let `meter`, or one of the global provider, read `DataSync.status` whenever it
    collects: `observe(sync.status)`.

    The names are those of Prometheus with dots after the first two words and no `_total`:
    `datasync.watch.backlog_changes`. One call takes all DataSyncs of the process; a name
    that is used twice gets a number.
    """
    meter = meter or get_meter("datasync")
    for family in FAMILIES:
        create = (
            meter.create_observable_counter
            if family.kind == "counter"
            else meter.create_observable_gauge
        )
        name = family.name.removesuffix("_total").replace("_", ".", 2)
        create(name, callbacks=[partial(_observations, family, statuses)], description=family.about)


def _observations(
    family: Family, statuses: tuple[Callable[[], Status], ...], _: CallbackOptions
) -> Iterable[Observation]:
    return [
        Observation(float(value), dict(labels))
        for labels, value in family.samples(distinct(joined(statuses)))
    ]
