"""Metrics in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterator

from datasync.metrics import FAMILIES, Sample, distinct
from datasync.restsync._overview import Overview
from datasync.status import Status

__all__ = ["CONTENT_TYPE", "Requests", "exposition"]

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_METHODS = frozenset(("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"))


class Requests:
    """Counts the requests that were answered."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}

    def count(self, route: str, method: str, status: int) -> None:
        """One more; `route` is the pattern of the path, never the path itself."""
        what = (route, method if method in _METHODS else "other", status)
        self._counts[what] = self._counts.get(what, 0) + 1

    def samples(self) -> list[Sample]:
        """All counts."""
        return [
            ({"route": route, "method": method, "status": str(status)}, count)
            for (route, method, status), count in sorted(self._counts.items())
        ]


def exposition(now: Overview, streams: int, requests: Requests) -> bytes:
    """All metrics."""
    return "".join(_families(now, streams, requests)).encode(errors="backslashreplace")


def _families(now: Overview, streams: int, requests: Requests) -> Iterator[str]:
    yield _family("datasync_info", "gauge", "The version.", [({"version": now.version}, 1)])
    yield _family("datasync_start_time_seconds", "gauge", "When it was started.", [({}, now.started)])
    yield _family("datasync_ready", "gauge", "1 once the state is complete.", [({}, now.ready)])
    yield _family("datasync_keys", "gauge", "Keys that are held.", [({}, now.keys)])
    yield _family("datasync_revision", "gauge", "The newest revision.", [({}, now.revision)])
    yield _family("datasync_watchers", "gauge", "Remote watchers.", [({}, now.watchers)])
    yield _family("datasync_event_streams", "gauge", "Event streams that are open.", [({}, streams)])
    yield _family("datasync_http_requests_total", "counter", "Requests answered.", requests.samples())
    status = distinct(Status(now.sources, now.watches))
    for family in FAMILIES:
        yield _family(family.name, family.kind, family.about, list(family.samples(status)))


def _family(name: str, kind: str, about: str, samples: list[Sample]) -> str:
    lines = [f"# HELP {name} {about}\n# TYPE {name} {kind}\n"]
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{inside}}} {_number(value)}\n" if inside else f"{name} {_number(value)}\n")
    return "".join(lines) if samples else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return repr(float(value)) if isinstance(value, float) and value != int(value) else str(int(value))
