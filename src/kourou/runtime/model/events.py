"""What the director is told: frozen data, as it stands in its queue."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from kourou.runtime.model.records import Outcome, ProcessExit


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfAttempt:
    """What happened to one attempt of one node."""

    name: str
    attempt: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placed(OfAttempt):
    """The node starts on this host."""

    host: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Started(OfAttempt):
    """The node's process or thread exists."""

    pid: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attached(OfAttempt):
    """The node's process has reported to the coordinator."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published(OfAttempt):
    """The node changed what others may know of it."""

    ready: bool
    serves_only: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reported(OfAttempt):
    """The node said how it ended. For one that is a thread of its colocation there is no other sign of it."""

    outcome: Outcome


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exited(OfAttempt):
    """The node's process or thread, and all that it started, is gone."""

    exit: ProcessExit


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopAsked:
    """Somebody wants the program to end."""

    reason: str
    origin: str
    at_once: bool = False
    """Kill without asking."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestartAsked:
    """Somebody wants a node to be ended and started again, whatever its policy."""

    name: str
    origin: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemoveAsked:
    """Somebody wants these nodes to end, and the program to go on without them."""

    names: tuple[str, ...]
    origin: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Due:
    """Nothing else has happened, and it is time for what was due next."""


Event: TypeAlias = (
    Placed | Started | Attached | Published | Reported | Exited | StopAsked | RestartAsked | RemoveAsked | Due
)
