"""For applications that use OpenTelemetry: a span for each write, and one for each event from its
delivery to the verdict, within the trace of the write that brought it."""

from __future__ import annotations

import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import Context
from typing import Any

import msgspec

from datasync import traceparent
from datasync.errors import MissingExtra, NotApplied
from datasync.events import Change, Event, ResyncEvent
from datasync.outcome import KeyOutcome, Verdict, reasons_of
from datasync.source import Committed, Delete, Operation, Put
from datasync.syncbase.mirror import Diff
from datasync.version import __version__

try:
    from opentelemetry import context as otel_context
    from opentelemetry import trace
    from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError as error:
    raise MissingExtra(
        f"this needs the module {error.name}; pip install 'datasync[otel]'"
    ) from None

__all__ = ["Tracing"]

_KEPT = 4096
"""Writes of keys whose events may still come; older ones are forgotten."""
_LOOKED_AT = 1000
"""Changes of an event that are looked at for the writes that brought them."""
_LINKS = 100
_W3C = TraceContextTextMapPropagator()


class _Write(msgspec.Struct, eq=False):
    """What a key was written with, and in which span. revision: None where it is not known yet, or
    at all."""

    span: SpanContext
    value: int
    revision: int | None = None

    def brought(self, change: Change[Any]) -> bool:
        """Whether the change may be what came of it."""
        if self.revision is not None and change.revision:
            return change.revision == self.revision
        return self.value == hash(change.raw)


class Tracing:
    """Makes the spans of one DataSync.

    provider: what makes tracers; None for the global one.
    """

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("datasync", __version__, provider)
        self._spans: dict[str, Span] = {}
        """Of the events that are out, by the name of the watch: it has one at a time."""
        self._writes: OrderedDict[str, _Write] = OrderedDict()
        self._replaced: SpanContext | None = None
        """Who sent the latest whole state."""

    # -- writes ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(
        self, operations: Sequence[Operation], sources: Iterable[str], *, confirm: bool
    ) -> Iterator[Callable[[Committed], None]]:
        """A span around one write; what is yielded is told what was committed."""
        attributes: dict[str, str | int] = {
            "datasync.keys": len(operations),
            "datasync.source": ", ".join(sources),
        }
        within = None  # the current one
        if not trace.get_current_span().get_span_context().is_valid:  # where a client asks for it
            within = _below(_sender())
        with self._tracer.start_as_current_span(
            f"datasync {_verb(operations)}", within, SpanKind.PRODUCER, attributes
        ) as span:
            own = span.get_span_context()
            writes = [
                self._note(operation.key, _Write(own, hash(raw)))
                for operation, raw in _written(operations)
            ]

            def committed(done: Committed) -> None:
                for write in writes:
                    write.revision = done.revision
                if done.revision is not None:
                    span.set_attribute("datasync.revision", done.revision)
                if confirm:
                    span.set_attribute("datasync.verdict", Verdict.ACCEPTED.value)

            carrier: dict[str, str] = {}
            _W3C.inject(carrier)
            try:
                with traceparent.carrying(carrier.get(traceparent.HEADER)):
                    yield committed
            except NotApplied as error:
                span.set_attribute("datasync.verdict", error.verdict.value)
                raise

    def _note(self, key: str, write: _Write) -> _Write:
        self._writes[key] = write
        self._writes.move_to_end(key)
        if len(self._writes) > _KEPT:
            self._writes.popitem(last=False)
        return write

    def committed(self, diffs: Sequence[Diff], revision: int) -> None:
        """A commit is known. Where it is known within the very write, by a client of a server here,
        that write is in another process, and its trace came with it."""
        sender = _sender()
        if sender is not None:
            for key, _, new in diffs:
                known = self._writes.get(key)
                if known is None or known.span.span_id != sender.span_id:
                    raw = None if new is None else new.raw
                    self._note(key, _Write(sender, hash(raw), revision or None))

    def replaced(self) -> None:
        """A whole state is known."""
        self._replaced = _sender()

    # -- events ------------------------------------------------------------------------------------

    def given(self, watch: str, event: Event[Any], within: Context) -> Context:
        """An event is handed over: the context for its handler, where its span is the current one,
        and all else as in `within`."""
        self.closed(watch)

        whole = isinstance(event, ResyncEvent)
        origins = self._origins(event)
        attributes: dict[str, str | int] = {
            "datasync.watch": watch,
            "datasync.keys": (
                sum(map(len, event.values.values()))
                if isinstance(event, ResyncEvent)
                else len(event.changes)
            ),
            "datasync.source": event.source,
            "datasync.revision": event.revision,
            "datasync.attempt": event.attempt,
        }

        if isinstance(event, ResyncEvent):
            attributes["datasync.reason"] = event.reason

        one = origins[0] if len(origins) == 1 else None
        span = self._spans[watch] = self._tracer.start_span(
            f"{watch} {'RESYNC' if whole else 'CHANGE'}",
            _below(one),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=[Link(origin) for origin in origins] if one is None else (),
        )

        context = within.copy()
        context.run(lambda: otel_context.attach(trace.set_span_in_context(span)))
        return context

    def settled(
        self,
        watch: str,
        verdict: Verdict,
        outcomes: Mapping[str, KeyOutcome],
        error: BaseException | None,
    ) -> None:
        """The event that the watch has been given has an outcome."""
        span = self._spans.pop(watch, None)
        if span is None:
            return
        span.set_attribute("datasync.verdict", verdict.value)
        if refused := len(reasons_of(outcomes)):
            span.set_attribute("datasync.refused_keys", refused)
        if len(outcomes) > refused:
            span.set_attribute("datasync.open_keys", len(outcomes) - refused)
        if error is not None:
            span.record_exception(error)
        if verdict not in (Verdict.ACCEPTED, Verdict.PENDING):
            span.set_status(Status(StatusCode.ERROR, verdict.value))
        span.end()

    def overdue(self, watch: str) -> None:
        """Nobody waits for the watch any longer; its event may still be out."""
        if (span := self._spans.get(watch)) is not None:
            span.add_event("overdue")

    def closed(self, watch: str) -> None:
        """What the watch has been given will have no outcome: it was closed, or not received."""
        if (span := self._spans.pop(watch, None)) is not None:
            span.end()

    def _origins(self, event: Event[Any]) -> list[SpanContext]:
        """The spans of the writes that the event came of, as far as they are known."""
        found: dict[tuple[int, int], SpanContext] = {}
        if isinstance(event, ResyncEvent) and self._replaced is not None:
            found[self._replaced.trace_id, self._replaced.span_id] = self._replaced
        if self._writes:
            for change in itertools.islice(event.changes, _LOOKED_AT):
                write = self._writes.get(change.key)
                if write is not None and write.brought(change):
                    found[write.span.trace_id, write.span.span_id] = write.span
        return list(itertools.islice(found.values(), _LINKS))


def _verb(operations: Sequence[Operation]) -> str:
    writes = [one for one in operations if isinstance(one, Put | Delete)]
    if len(writes) != 1:
        return "txn"
    return "put" if isinstance(writes[0], Put) else "delete"


def _written(operations: Sequence[Operation]) -> Iterator[tuple[Put | Delete, bytes | None]]:
    for operation in operations:
        if isinstance(operation, Put):
            yield operation, operation.raw
        elif isinstance(operation, Delete) and not operation.prefix:
            yield operation, None


def _below(parent: SpanContext | None) -> otel_context.Context:
    """Where a span begins that is to be below that one, or at the top: what happens to be current
    here has nothing to do with it."""
    nothing = otel_context.Context()
    if parent is None:
        return nothing
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), nothing)


def _sender() -> SpanContext | None:
    """The span of the write that is under way here, in whatever process it was begun."""
    text = traceparent.carried()
    if text is None:
        return None
    extracted = _W3C.extract({traceparent.HEADER: text}, otel_context.Context())
    span = trace.get_current_span(extracted).get_span_context()
    return span if span.is_valid else None
