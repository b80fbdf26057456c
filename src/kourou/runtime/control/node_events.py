"""What a node is told on its stream."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from kourou.runtime.model.records import NodeRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class Welcome:
    """The first event of every watcher."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stop:
    """The program stops."""

    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """All nodes with work of their own have ended: those that only serve may go. It is a stop as well."""

    removed: str = ""
    """It is for this node alone: who had it removed."""


Event: TypeAlias = Welcome | NodeRecord | Stop | Release
