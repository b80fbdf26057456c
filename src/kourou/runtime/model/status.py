"""The state of a whole run: what another shell is told while it runs, and what status.json keeps of it."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from kourou.runtime.model.names import label_of
from kourou.runtime.model.records import NodeRecord

STATUS_FILE = "status.json"
"""In a run's folder once the run has ended: its last :class:`RunStatus`."""


class RunState(str, enum.Enum):
    """running → stopping → finished | failed | interrupted; or what is known where no launcher can be asked."""

    PENDING = "pending"
    """It was submitted, and its job has not begun."""
    RUNNING = "running"
    SUSPENDED = "suspended"
    """Its launcher was, by Ctrl-Z or SIGSTOP, and answers nobody; the nodes go on."""
    STOPPING = "stopping"
    """It was asked to end, or a node failed; not all nodes have ended yet."""
    FINISHED = "finished"
    """It ended, and no node failed that was not allowed to."""
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Ctrl-C or SIGTERM ended it."""
    DEAD = "dead"
    """Its launcher died without a word, and the nodes with it."""
    ELSEWHERE = "elsewhere"
    """It was launched on another host (or in another container), from where alone one could tell."""

    @property
    def over(self) -> bool:
        """False while it may go on, or has yet to begin."""
        return not self.live and self is not RunState.PENDING

    @property
    def live(self) -> bool:
        """True while nodes may be running here."""
        return self in {RunState.RUNNING, RunState.SUSPENDED, RunState.STOPPING}

    def __str__(self) -> str:
        return self.value


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunStatus:
    """A run and all of its nodes at one moment."""

    run_id: str
    program: str
    launch_type: str
    state: RunState
    stop_reason: str = ""
    waits_for: str = ""
    """What has to come before nodes can be placed, in the words of the engine that is to give hosts; "": nothing."""
    started_at: float
    """Unix time."""
    ended_at: float | None = None
    """Unix time; None while it runs, and where it is not known."""
    nodes: tuple[NodeRecord, ...] = ()
    """In the order of the program; those that were added later stand with their groups."""

    def __post_init__(self) -> None:
        groups: dict[str, list[NodeRecord]] = {}
        for node in self.nodes:
            groups.setdefault(label_of(node.name), []).append(node)
        object.__setattr__(self, "nodes", tuple(node for group in groups.values() for node in group))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**data, "state": str(self.state), "nodes": [node.to_dict() for node in self.nodes]}

    def without_details(self) -> RunStatus:
        """A copy of bounded size: what nodes printed last, and their tracebacks, are left out."""
        nodes = []
        for node in self.nodes:
            end = node.exit and dataclasses.replace(node.exit, traceback="", last_lines=())
            nodes.append(dataclasses.replace(node, exit=end))
        return dataclasses.replace(self, nodes=tuple(nodes))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunStatus:
        """The inverse of :meth:`to_dict`."""
        nodes = tuple(NodeRecord.from_dict(node) for node in data["nodes"])
        return cls(**{**data, "state": RunState(data["state"]), "nodes": nodes})
