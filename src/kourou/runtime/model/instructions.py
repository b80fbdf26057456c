"""What the director wants done: frozen data, which its shell carries out in order."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

from kourou.runtime.model.records import ExitRecord, NodeRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class Add:
    """These nodes belong to the program, too, from now on."""

    records: tuple[NodeRecord, ...]
    origin: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Begin:
    """A new attempt of the node is STARTING now."""

    name: str
    attempt: int
    host: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """These fields of the node's record have new values."""

    name: str
    changes: Mapping[str, object]


@dataclasses.dataclass(frozen=True, kw_only=True)
class End:
    """An attempt has ended, as this record says; its log is named though there may be none."""

    record: ExitRecord
    will_restart: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fail:
    """This failure is one of the program's."""

    record: ExitRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launch:
    """Start the node's process or thread."""

    name: str
    attempt: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signal:
    """Send a signal to the node's process, or do what it means to the node's thread."""

    name: str
    number: int
    """INTERRUPT or NO_SIGNAL of ``records``, SIGTERM or SIGKILL."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stop:
    """Tell all nodes that the program stops."""

    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dismiss:
    """Tell the node, and no other, that it is to stop, and that nobody needs it any more."""

    name: str
    origin: str
    """Who had it removed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """Tell nodes that only serve that nobody needs them any more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tell:
    """Say so in the node's log, and wherever its lines are shown."""

    name: str
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warn:
    """Tell the user."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Write:
    """Append a line to the run's events."""

    event: str
    fields: Mapping[str, object]


Instruction: TypeAlias = (
    Add | Begin | Change | Dismiss | End | Fail | Launch | Signal | Stop | Release | Tell | Warn | Write
)
