"""A trace for an OpenTelemetry collector: a call is the parent of its handler, and that of the calls which it makes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from kourou import errors
from kourou.courier.core.trace import Span
from kourou.extras import load_extra
from kourou.runtime.metrics.families import of_node
from kourou.runtime.metrics.otel import resource, signal_url
from kourou.runtime.monitoring.trace import Traced, spans_of

_KINDS = {"call": "CLIENT", "future": "CLIENT", "handler": "SERVER"}
_BATCH = 5_000


class Linked(NamedTuple):
    """A span, and where it belongs."""

    span: Span
    number: int
    """Its own, of 64 bits."""
    parent: int | None
    trace: int
    """Of 128 bits: all that came of one call has it in common."""


def linked(spans: Iterable[Span]) -> list[Linked]:
    """The spans with their parents, each as far as it was recorded."""
    listed = list(spans)
    parents: dict[int, int | None] = {}
    calls = {span.call_id: _number(span) for span in listed if span.kind != "handler"}
    for span, around in _within(listed):
        caller = calls.get(span.call_id) if span.kind == "handler" else None
        parents[_number(span)] = caller if caller is not None else _number(around) if around is not None else None
    return [Linked(span, _number(span), parents[_number(span)], _root(_number(span), parents)) for span in listed]


def _within(spans: Iterable[Span]) -> Iterator[tuple[Span, Span | None]]:
    """Each span, and the one of the same thread that it began in."""
    by_thread: dict[tuple[str, int], list[Span]] = {}
    for span in spans:
        by_thread.setdefault((span.node, span.thread), []).append(span)
    for mine in by_thread.values():
        around: list[Span] = []
        for span in sorted(mine, key=lambda one: (one.start_ns, -one.duration_ns)):
            while around and around[-1].start_ns + around[-1].duration_ns <= span.start_ns:
                around.pop()
            yield span, around[-1] if around else None
            if span.kind != "future":  # which its thread did not wait for
                around.append(span)


def _number(span: Span) -> int:
    """A call and its handler have a number in common, and are two spans."""
    text = f"{span.call_id} {span.kind == 'handler'}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") or 1


def _root(number: int, parents: dict[int, int | None]) -> int:
    seen = {number}
    while (parent := parents.get(number)) is not None and parent not in seen:
        number = parent
        seen.add(number)
    return number << 64 | number


def send_spans(traced: Traced, run: str, program: str, collector: str) -> int:
    """Send what nodes recorded; how many spans.

    Args:
        traced: the recordings.
        run: the run's name.
        program: its program's.
        collector: the base of an OTLP/HTTP address; empty: as OpenTelemetry's environment variables say.

    Raises:
        MissingExtra: OpenTelemetry's exporter is not installed.
        ServerUnavailable: the collector did not take them.
    """
    exporter_module: Any = load_extra("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    sdk: Any = load_extra("opentelemetry.sdk.trace.export")
    exporter = exporter_module.OTLPSpanExporter(endpoint=signal_url(collector, "traces"))
    make = _Maker(run, program)
    found = [make.span(one) for one in linked(span for span, _ in spans_of(traced))]
    try:
        for begin in range(0, len(found), _BATCH):
            if exporter.export(found[begin : begin + _BATCH]) is not sdk.SpanExportResult.SUCCESS:
                raise errors.ServerUnavailable("the OpenTelemetry collector took no spans; its exporter has logged why")
    finally:
        exporter.shutdown()
    return len(found)


class _Maker:
    """Makes OpenTelemetry's spans; each node is a resource."""

    def __init__(self, run: str, program: str) -> None:
        self._api: Any = load_extra("opentelemetry.trace")
        self._sdk: Any = load_extra("opentelemetry.sdk.trace")
        self._run, self._program = run, program
        self._resources: dict[str, Any] = {}

    def span(self, one: Linked) -> Any:
        span, node = one.span, one.span.node or "launcher"
        if node not in self._resources:
            self._resources[node] = resource(f"{self._run}/{node}", self._program, **of_node(node))
        return self._sdk.ReadableSpan(
            name=span.name,
            context=self._context(one.trace, one.number),
            parent=None if one.parent is None else self._context(one.trace, one.parent),
            resource=self._resources[node],
            attributes={"rpc.system": "kourou", "rpc.method": span.name.rpartition(".")[2], "thread.id": span.thread},
            kind=self._api.SpanKind[_KINDS[span.kind]],
            start_time=span.start_ns,
            end_time=span.start_ns + span.duration_ns,
        )

    def _context(self, trace: int, number: int) -> Any:
        sampled = self._api.TraceFlags(self._api.TraceFlags.SAMPLED)
        return self._api.SpanContext(trace, number, is_remote=False, trace_flags=sampled)
