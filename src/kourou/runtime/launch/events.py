"""What the director is told, as it stands in its queue."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from kourou.runtime.model.records import ProcessExit

__all__ = ["Event", "Exited", "PartReady", "Placed", "Started", "StopAsked"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Started:
    """The node's process or thread exists."""

    name: str
    attempt: int
    pid: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placed:
    """The node starts on this host."""

    name: str
    attempt: int
    host: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exited:
    """An attempt of the node ended."""

    name: str
    attempt: int
    exit: ProcessExit


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopAsked:
    """Somebody wants the program to end."""

    reason: str
    origin: str
    at_once: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartReady:
    """A part of a colocation of processes is ready."""

    unit: str


Event: TypeAlias = Placed | Started | Exited | StopAsked | PartReady
