"""Metrics in the text format of Prometheus (version 0.0.4). A key is never a label: their number has no bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from datasync.restsync._overview import Overview

__all__ = ["CONTENT_TYPE", "Requests", "exposition"]

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


class Requests:
    """Counts the requests that were answered."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}

    def count(self, route: str, method: str, status: int) -> None:
        """One more; `route` is the pattern of the path, never the path itself."""
        what = (route, method, status)
        self._counts[what] = self._counts.get(what, 0) + 1

    def samples(self) -> list[Sample]:
        """All counts."""
        return [
            ({"route": route, "method": method, "status": str(status)}, count)
            for (route, method, status), count in sorted(self._counts.items())
        ]


def exposition(now: Overview, streams: int, requests: Requests) -> bytes:
    """All metrics."""
    return "".join(_families(now, streams, requests)).encode()


def _families(now: Overview, streams: int, requests: Requests) -> Iterator[str]:
    yield _family("datasync_info", "gauge", "The version.", [({"version": now.version}, 1)])
    yield _family("datasync_start_time_seconds", "gauge", "When it was started.", [({}, now.started)])
    yield _family("datasync_ready", "gauge", "1 once the state is complete.", [({}, now.ready)])
    yield _family("datasync_keys", "gauge", "Keys that are held.", [({}, now.keys)])
    yield _family("datasync_revision", "gauge", "The newest revision.", [({}, now.revision)])
    yield _family("datasync_watchers", "gauge", "Remote watchers.", [({}, now.watchers)])
    yield _family("datasync_event_streams", "gauge", "Event streams that are open.", [({}, streams)])
    yield _family("datasync_http_requests_total", "counter", "Requests answered.", requests.samples())
    sources = [({"source": source.name}, source) for source in now.sources]
    yield _family(
        "datasync_source_up", "gauge", "1 while it is followed.",
        [(labels, source.state == "following") for labels, source in sources],
    )  # fmt: skip
    yield _family(
        "datasync_source_reconnects_total", "counter", "How often it came back.",
        [(labels, source.reconnects) for labels, source in sources],
    )  # fmt: skip
    watches = [({"watch": watch.name}, watch) for watch in now.watches]
    yield _family(
        "datasync_watch_state", "gauge", "1 for the state that the watch is in.",
        [({**labels, "state": watch.state}, 1) for labels, watch in watches],
    )  # fmt: skip
    yield _family(
        "datasync_watch_failing", "gauge", "1 while there is something that it could not apply.",
        [(labels, watch.failing is not None) for labels, watch in watches],
    )  # fmt: skip
    yield _family(
        "datasync_watch_backlog_changes", "gauge", "Changes that wait for it.",
        [(labels, watch.backlog) for labels, watch in watches],
    )  # fmt: skip
    yield _family(
        "datasync_watch_events_total", "counter", "Events that it has reported on.",
        [(labels, watch.events) for labels, watch in watches],
    )  # fmt: skip
    yield _family(
        "datasync_watch_changes_total", "counter", "Changes that it accepted.",
        [(labels, watch.changes) for labels, watch in watches],
    )  # fmt: skip
    yield _family(
        "datasync_watch_last_resync_seconds", "gauge", "How long its last RESYNC took.",
        [(labels, watch.resync.duration) for labels, watch in watches if watch.resync is not None],
    )  # fmt: skip
    yield _family(
        "datasync_watch_last_resync_keys", "gauge", "How many keys its last RESYNC had.",
        [(labels, watch.resync.keys) for labels, watch in watches if watch.resync is not None],
    )  # fmt: skip


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
