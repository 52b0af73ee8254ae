"""For applications that use OpenTelemetry: the metrics of their DataSyncs
as observable instruments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from datasync.errors import MissingExtra
from datasync.metrics import distinct, families_of, parts
from datasync.status import Status, joined

try:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter
except ModuleNotFoundError as error:
    raise MissingExtra(
        f"this needs the module {error.name}; pip install 'datasync[otel]'"
    ) from None

__all__ = ["observe"]


def observe(*statuses: Callable[[], Status], meter: Meter | None = None) -> None:
    """Let `meter`, or one of the global provider, read `DataSync.status` whenever it
    collects: `observe(sync.status)`.

    The names are those of Prometheus with dots after the first two words and no `_total`:
    `datasync.watch.backlog_changes`. A histogram becomes three counters, as OpenTelemetry has no
    observable one: `.bucket` with `le`, `.count` and `.sum`. One call takes all DataSyncs of the
    process; a name that is used twice gets a number. What a panel measures is read only if the
    panel was shown before the call.
    """
    meter = meter or get_meter("datasync")
    for family in families_of(joined(statuses)):
        create = (
            meter.create_observable_gauge
            if family.kind == "gauge"
            else meter.create_observable_counter
        )
        name = family.name.removesuffix("_total").replace("_", ".", 2)
        for suffix in ("_bucket", "_count", "_sum") if family.kind == "histogram" else ("",):
            create(
                name + suffix.replace("_", "."),
                callbacks=[partial(_observations, family.name, suffix, statuses)],
                description=family.about,
            )


def _observations(
    name: str, suffix: str, statuses: tuple[Callable[[], Status], ...], _: CallbackOptions
) -> Iterable[Observation]:
    now = distinct(joined(statuses))
    return [
        Observation(value, dict(labels))
        for family in families_of(now)
        if family.name == name
        for part, labels, value in parts(family, now)
        if part == suffix
    ]
