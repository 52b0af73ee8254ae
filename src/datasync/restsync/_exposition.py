"""The metrics of a server in the format that is asked for: the text format of
Prometheus, or OpenMetrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from datasync.metrics.prometheus import families
from datasync.restsync._metrics import Requests
from datasync.restsync._overview import Overview
from datasync.status import PanelStatus, Status

__all__ = ["exposition"]


def exposition(
    now: Overview, panels: list[PanelStatus], streams: int, requests: Requests, accept: str
) -> tuple[bytes, bytes]:
    """All metrics, and their content type.

    now: how the server is, with all its watches.
    panels: what the application adds.
    streams: event streams that are open.
    accept: the Accept header, which chooses the format.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Taken(now, panels, streams, requests))
    try:
        encode, kind = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is not a number
        encode, kind = choose_encoder("")
    return encode(registry), kind.encode()


class _Taken(Collector):
    """The metrics at one moment: those that only a server can count, then those
    of its sources, watches and panels."""

    def __init__(
        self, now: Overview, panels: list[PanelStatus], streams: int, requests: Requests
    ) -> None:
        self._now = now
        self._panels = panels
        self._streams = streams
        self._requests = requests

    def collect(self) -> Iterator[Metric]:
        now = self._now
        yield InfoMetricFamily("datasync", "Version of datasync.", {"version": now.version})
        yield GaugeMetricFamily(
            "datasync_start_time_seconds",
            "Start time of the server, in seconds since the epoch.",
            now.started,
        )
        yield GaugeMetricFamily(
            "datasync_ready", "Whether the state is complete (1) or not (0).", now.ready
        )
        yield GaugeMetricFamily("datasync_keys", "Keys in the state.", now.keys)
        yield GaugeMetricFamily("datasync_revision", "Latest revision of the state.", now.revision)
        yield GaugeMetricFamily("datasync_watchers", "Connected remote watchers.", now.watchers)
        yield GaugeMetricFamily("datasync_event_streams", "Open event streams.", self._streams)

        answered = CounterMetricFamily(
            "datasync_http_requests",
            "HTTP requests answered, by route, method and status.",
            labels=("route", "method", "status"),
        )
        for labels, count in sorted(self._requests.counts.items()):
            answered.add_metric(labels, count)
        yield answered
        yield from families(Status(now.sources, now.watches, self._panels))
