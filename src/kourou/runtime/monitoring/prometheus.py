"""Numbers in Prometheus' text format, their names as OpenTelemetry's become Prometheus'."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kourou.runtime.metrics.families import Buckets, Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_UNITS = {"": "", "s": "_seconds", "By": "_bytes"}


def exposition(families: Iterable[Family]) -> str:
    """The text that a scrape gets."""
    return "".join(line for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    name = _plain(family.name) + _UNITS[family.unit] + ("_total" if family.kind == "counter" else "")
    yield f"# HELP {name} {family.text}\n# TYPE {name} {family.kind}\n"
    for point in family.points:
        if isinstance(point.value, Buckets):
            yield from _histogram(name, point.attributes, point.value)
        else:
            yield _line(name, point.attributes, point.value)


def _histogram(name: str, attributes: Mapping[str, str], one: Buckets) -> Iterator[str]:
    bounds = [*map(repr, one.bounds), "+Inf"]
    for bound, count in zip(bounds, itertools.accumulate(one.counts), strict=True):
        yield _line(f"{name}_bucket", {**attributes, "le": bound}, float(count))
    yield _line(f"{name}_sum", attributes, one.total)
    yield _line(f"{name}_count", attributes, float(sum(one.counts)))


def _line(name: str, attributes: Mapping[str, str], value: float) -> str:
    told = ",".join(f'{_plain(key)}="{_escaped(text)}"' for key, text in attributes.items())
    return f"{name}{{{told}}} {_number(value)}\n"


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _number(value: float) -> str:
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(repr(value), repr(value))


def _escaped(text: Any) -> str:
    return str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
