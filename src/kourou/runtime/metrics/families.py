"""Numbers with names as OpenTelemetry gives them, for whoever sends or prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from kourou.runtime.model.names import label_of

LOGGED = "kourou.logged"
"""The latest value of what a node logs with ``lp.log``."""


class Buckets(NamedTuple):
    """How many of something were how large."""

    bounds: Sequence[float]
    """Upper ends, ascending; there is one more bucket, without an end."""
    counts: Sequence[int]
    """Of each bucket alone."""
    total: float
    """The sum of all."""


class Point(NamedTuple):
    """One number, or one histogram."""

    attributes: Mapping[str, str]
    value: float | Buckets
    at: float
    """Unix time."""


class Family(NamedTuple):
    """All points of one name."""

    name: str
    """``rpc.server.call.duration``."""
    kind: Literal["gauge", "counter", "histogram"]
    unit: Literal["", "s", "By"]
    text: str
    points: Sequence[Point]


def of_node(node: str, **attributes: str) -> dict[str, str]:
    """The attributes of a node's points."""
    return {"node": node, "label": label_of(node), **attributes}
