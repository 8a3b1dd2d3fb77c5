"""A span for each call, where OpenTelemetry is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segue._options import Options
from segue.errors import Error

try:
    from opentelemetry import propagate, trace
except ImportError:
    _tracer = None
else:
    _tracer = trace.get_tracer("segue")

_TEXT_SHOWN_MAX = 2048


class Span:
    """One call; `metadata` makes segue's spans children of it."""

    __slots__ = ("_span", "metadata")

    def __init__(self, span: Any, metadata: Sequence[tuple[str, str]]) -> None:
        self._span = span
        self.metadata = metadata

    def end(self, error: BaseException | None = None) -> None:
        """Ends the span, with what went wrong."""
        if self._span is None:
            return
        if error is not None:
            kind = getattr(error, "sqlstate", "") or type(error).__name__
            self._span.set_attribute("error.type", kind)
            if isinstance(error, Error):
                if error.sqlstate:
                    self._span.set_attribute("db.response.status_code", error.sqlstate)
                self._span.set_status(trace.Status(trace.StatusCode.ERROR, error.message))
        self._span.end()


NO_SPAN = Span(None, ())


def start(operation: str, text: str, options: Options) -> Span:
    """The span of a call; parameters are never among its attributes."""
    if _tracer is None:
        return NO_SPAN
    attributes: dict[str, Any] = {"db.system.name": "postgresql", "db.operation.name": operation}
    if text:
        attributes["db.query.text"] = text[:_TEXT_SHOWN_MAX]
    if options.socket:
        attributes |= {"server.address": options.socket, "network.transport": "unix"}
    else:
        attributes |= {"server.address": options.host, "server.port": options.port}
    span = _tracer.start_span(operation, kind=trace.SpanKind.CLIENT, attributes=attributes)
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    metadata = [(name, carrier[name]) for name in ("traceparent", "tracestate") if name in carrier]
    return Span(span, metadata)
