"""What is known of a node: its state, where it listens, how it ended. Plain frozen data, shared by all parts.

Records go to everybody who calls the node, so what a node says of its end, which may be megabytes, is cut to a length
when the record is made. All of it stays in the log.
"""

from __future__ import annotations

import dataclasses
import enum
import signal as signals
from collections.abc import Iterable, Mapping
from typing import Any

from kourou import errors

INTERRUPT = signals.SIGURG
"""Carries "raise StopRequested now" into a node's main thread. Its default action is to be ignored, so one that comes
late is harmless, and unlike an asynchronous exception it interrupts sleeps, locks and blocking reads."""

NO_SIGNAL = 0
"""Does nothing to a process; one that was to be begun never will be, as with all that is sent to it by then."""

FOR_IT_ALONE = frozenset({INTERRUPT, NO_SIGNAL})
"""Of what is sent to a node: all else is for what it has started, too."""

_TERMINATING = frozenset({signals.SIGTERM, signals.SIGHUP})
_MOST_CAUSE_BYTES = 4 << 10
_MOST_TRACEBACK_BYTES = 64 << 10
MOST_LINE_BYTES = 4 << 10
"""Kept of a line of output, for the report of a failure."""
_MOST_LINES_BYTES = 32 << 10  # of all last lines together


def shortened(text: str, most_bytes: int = _MOST_CAUSE_BYTES) -> str:
    """The text with its middle left out if it is longer, and fit to be sent: without halves of UTF-16's pairs."""
    if text.isascii() and len(text) <= most_bytes:
        return text
    data = text.encode(errors="backslashreplace")
    if len(data) <= most_bytes:
        return data.decode()
    left_out = f" … {len(data) - most_bytes} bytes left out … "
    half = max(0, most_bytes - len(left_out.encode())) // 2
    return data[:half].decode(errors="ignore") + left_out + data[len(data) - half :].decode(errors="ignore")


def _last_of(lines: Iterable[str]) -> tuple[str, ...]:
    """The last of these lines, as many as a record may hold."""
    kept: list[str] = []
    left_bytes = _MOST_LINES_BYTES
    for line in reversed(tuple(lines)):
        kept.append(shortened(line, MOST_LINE_BYTES))
        left_bytes -= len(kept[-1].encode()) + 1
        if left_bytes < 0:
            kept.pop()
            break
    return tuple(reversed(kept))


def _cut(record: Any, *names: str, traceback: bool = False) -> None:
    """In a frozen record's ``__post_init__``: cut these texts to the length that a cause may have."""
    for name in names:
        object.__setattr__(record, name, shortened(getattr(record, name)))
    if traceback:
        object.__setattr__(record, "traceback", shortened(record.traceback, _MOST_TRACEBACK_BYTES))


class NodeState(str, enum.Enum):
    """PENDING → STARTING → READY → STOPPING → FINISHED | FAILED | KILLED."""

    PENDING = "PENDING"
    """Not started yet."""
    STARTING = "STARTING"
    """Its process or thread exists; its object is being constructed."""
    READY = "READY"
    """It runs, and answers calls if it serves any."""
    STOPPING = "STOPPING"
    """The program stops and the node has not ended yet."""
    FINISHED = "FINISHED"
    """It ended as it should."""
    FAILED = "FAILED"
    """It raised, exited with a code other than 0, or died."""
    KILLED = "KILLED"
    """It did not end in the time that the stop gave it, and was killed."""

    @property
    def ended(self) -> bool:
        """True for FINISHED, FAILED and KILLED."""
        return self in _ENDED

    def __str__(self) -> str:
        return self.value


_ENDED = frozenset({NodeState.FINISHED, NodeState.FAILED, NodeState.KILLED})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """A node's own words about its end, told before its process exits.

    ``kind`` is "finished", "stopped" (StopRequested was raised in it), "exited" (sys.exit with another code than 0),
    "raised", or "left" (a child's thread that its colocation could not end).
    """

    kind: str
    code: int = 0
    """What the process exits with."""
    exception: str = ""
    """``TypeName: message`` where it raised."""
    traceback: str = ""

    def __post_init__(self) -> None:
        _cut(self, "exception", traceback=True)

    @property
    def clean(self) -> bool:
        """True when the node ended as it should."""
        return self.kind in {"finished", "stopped"}


NOT_STARTED = 127
"""Exit code of what could not be started, as shells have it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessExit:
    """How the operating system saw a process (or kourou a thread) end."""

    code: int | None
    """Exit code; None when a signal ended it."""
    signal: int | None = None
    last_lines: tuple[str, ...] = ()
    """The end of its output."""
    cause: str = ""
    """Why, in words, where its supervisor knows better: it killed the process, lost it, or could not start it."""

    @classmethod
    def not_started(cls, reason: str) -> ProcessExit:
        """Of a process, or a thread, that there is not, since it could not be started."""
        return cls(code=NOT_STARTED, last_lines=(reason,), cause=f"could not start: {reason}")

    def __post_init__(self) -> None:
        _cut(self, "cause")
        object.__setattr__(self, "last_lines", _last_of(self.last_lines))

    @property
    def terminated(self) -> bool:
        """It did as it was told by SIGTERM or SIGHUP: died, or exited as shells say it."""
        return self.signal in _TERMINATING or (self.code or 0) - 128 in _TERMINATING


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExitRecord:
    """How one attempt of one node ended."""

    node: str
    attempt: int
    state: NodeState
    cause: str
    """In words, for example ``raised ValueError: no such env`` or ``killed by SIGSEGV``."""
    code: int | None = None
    signal: str | None = None
    traceback: str = ""
    last_lines: tuple[str, ...] = ()
    log_file: str | None = None
    host: str = ""
    pid: int | None = None
    uptime_s: float = 0.0

    def __post_init__(self) -> None:
        _cut(self, "cause", traceback=True)
        object.__setattr__(self, "last_lines", _last_of(self.last_lines))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return {**vars(self), "state": str(self.state)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExitRecord:
        """The inverse of :meth:`to_dict`; and what an event of this says, which has a time beside."""
        said = {name: value for name, value in data.items() if name not in {"time", "event"}}
        changed = {"state": NodeState(data["state"]), "last_lines": tuple(data["last_lines"])}
        return cls(**{**said, **changed})

    def describe(self) -> str:
        """Everything a person needs to find the fault."""
        where = f"pid {self.pid} on {self.host}" if self.pid else f"on {self.host}"
        parts = [f"{self.node} {self.cause} ({where}, attempt {self.attempt}, after {self.uptime_s:.1f} s)"]
        if self.traceback:
            parts.append(_indent(self.traceback))
        elif self.last_lines:
            parts.append("  its last lines:")
            parts.append(_indent("\n".join(self.last_lines)))
        if self.log_file:
            parts.append(f"  log: {self.log_file}")
        return "\n".join(parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeRecord:
    """One row of the directory: the present state of one node."""

    name: str
    """``label/index``."""
    state: NodeState = NodeState.PENDING
    attempt: int = 0
    pid: int | None = None
    host: str = ""
    endpoint: str | None = None
    """JSON of a :class:`kourou.courier.Endpoint`, once it serves."""
    serves_only: bool = False
    """It has no work of its own: it serves calls until the program stops."""
    will_restart: bool = False
    """The node has ended, but its policy starts it again."""
    started_at: float | None = None
    """Unix time of this attempt's start."""
    exit: ExitRecord | None = None
    """How the latest ended attempt ended."""
    removed: str = ""
    """Who had it removed from the running program; empty: nobody."""

    @property
    def gone(self) -> bool:
        """True when the node has ended and will not be back."""
        return self.state.ended and not self.will_restart

    @property
    def serves(self) -> bool:
        """True when it answers calls."""
        return self.endpoint is not None and self.state in {NodeState.READY, NodeState.STOPPING}

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**data, "state": str(self.state), "exit": self.exit.to_dict() if self.exit else None}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NodeRecord:
        """The inverse of :meth:`to_dict`."""
        exit_record = ExitRecord.from_dict(data["exit"]) if data["exit"] else None
        return cls(**{**data, "state": NodeState(data["state"]), "exit": exit_record})


def describe_signal(number: int) -> str:
    """``SIGKILL`` for 9; ``signal 64`` for one without a name."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip("\n").split("\n"))


def check_restart(name: str, records: Mapping[str, NodeRecord], inside: Mapping[str, str], *, threads: bool) -> None:
    """See whether it can.

    Args:
        name: the node.
        records: all nodes.
        inside: of nodes that are threads of their colocation: that colocation.
        threads: all are threads of the launcher.

    Raises:
        NotFound: there is no such node.
        NodeExited: it has ended for good.
        PlanError: it is a thread.
    """
    record = records.get(name)
    if record is None:
        raise errors.NotFound(f"there is no node {name!r}; there are: {', '.join(records)}")
    if threads:
        raise errors.PlanError(
            f"{name} is a thread, and only processes can be ended from outside: launch with local_mp"
        )
    if name in inside:
        outermost = inside[name]
        while outermost in inside:
            outermost = inside[outermost]
        raise errors.PlanError(f"{name} is a thread of {outermost}, which can be started again as a whole")
    if record.gone:
        how = f": it {record.exit.cause}" if record.exit else ""
        raise errors.NodeExited(f"{name} has ended for good{how}; only what runs can be started again")
