"""What a node tells of itself: frozen data, sent to whoever asks how it fares, or why a program does not go on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from kourou.courier.serving.reports import ServerReport
from kourou.waits import Activity

if TYPE_CHECKING:
    from kourou.weights.readers import WeightsReport

DEBUGGER = "a debugger"
"""For whom a node waits at a breakpoint."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableReport:
    """A table of a replay server."""

    name: str
    inserts: int
    """So far."""
    samples: int
    waiting_inserts: int
    waiting_samples: int
    waits_s: float
    """The request that has waited longest."""
    blocked_on: str
    current_size: int = 0
    """Items."""
    max_size: int = 0
    current_bytes: int = 0
    inserts_per_s: float = 0.0
    samples_per_s: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallsReport:
    """The calls that a node makes of another one."""

    on: str
    """Its name."""
    calls: int
    """So far; fewer than before when it had to connect anew."""
    unanswered: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeDetails:
    """What a node tells about itself; most have nothing to tell."""

    lines: tuple[str, ...] = ()
    """For people."""
    weights: tuple[WeightsReport, ...] = ()
    """That it holds, by their names, and who reads them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeReport:
    """A node, as it is now."""

    server: ServerReport
    activities: tuple[Activity, ...] = ()
    """What threads do for it."""
    calls: tuple[CallsReport, ...] = ()
    tables: tuple[TableReport, ...] = ()
    """Of a replay server."""
    details: NodeDetails = dataclasses.field(default_factory=NodeDetails)
