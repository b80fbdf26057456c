"""The launch plan: everything that will be started, as frozen data that can be printed, diffed and written as JSON."""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import TYPE_CHECKING, Any

from kourou.runtime.graph.failure_policies import OnFailure
from kourou.runtime.model.engines import EngineOptions, Shape
from kourou.runtime.model.hosts import Hosts
from kourou.runtime.model.process import Blobs, ProcessSpec
from kourou.runtime.plan.launch_type import LaunchType
from kourou.runtime.stopping.timeline import StopTimeline
from kourou.script.names import ANYTHING, Scope

if TYPE_CHECKING:
    from kourou.runtime.graph.topology import Topology


class Placement(str, enum.Enum):
    """What brings a node to life."""

    OWN = "own"
    """The launcher starts a process, or a thread, for it alone."""
    IN_PARENT = "in_parent"
    """Its colocation runs it, in a thread of the colocation's own process."""
    UNIT = "unit"
    """Nothing: it is a colocation of nodes that are started by themselves, and ends with them."""

    def __str__(self) -> str:
        return self.value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """Where a process runs, in a plan that spans hosts."""

    host: str
    """Its name, as the user wrote it."""
    others: tuple[str, ...] | None = None
    """Where it may be started again when that host is lost; None: on any other host of the plan."""
    cpus: float | None = None
    """What it asks of its host; None: nothing."""
    gpus: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodePlan:
    """One node of the program."""

    name: str
    kind: str
    """Its type and what it constructs, for people."""
    inputs: tuple[str, ...] = ()
    """The nodes that it has handles of."""
    serves_only: bool = False
    polls_while_starting: bool = False
    """While it starts, a stop gives it the time that nodes have which are READY."""
    on_failure: OnFailure = "fail"
    placement: Placement = Placement.OWN
    parent: str | None = None
    """The colocation that it is a child of."""
    process: ProcessSpec | None = None
    """None where nodes are threads, and for all that is not placed on its own."""
    site: Site | None = None
    """Where the process runs; None: on the launcher's host."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    """What ``lp.launch`` will start."""

    program: str
    launch_type: LaunchType
    nodes: tuple[NodePlan, ...]
    terminal: str = "current_terminal"
    stop: StopTimeline = dataclasses.field(default_factory=StopTimeline)
    hosts: Hosts | None = None
    """The hosts that it spans; None: the launcher's alone. Those of an engine are places of the allocation."""
    engine: EngineOptions | None = None
    """What allocates the hosts; None: they are given."""
    shape: Shape | None = None
    """What the engine is asked for."""
    blobs: Blobs = dataclasses.field(default_factory=dict, repr=False, compare=False)
    """The payloads' bytes by SHA-256; not part of the JSON."""
    scope: Scope = dataclasses.field(default=ANYTHING, repr=False, compare=False)
    """What the nodes have of the launcher's script."""

    @property
    def inside(self) -> dict[str, str]:
        """Of nodes that are threads of their colocation: that colocation."""
        return {node.name: node.parent for node in self.nodes if node.parent and node.placement is Placement.IN_PARENT}

    @property
    def places(self) -> dict[str, int]:
        """The hosts of an engine's allocation, as they are numbered there."""
        return {} if self.hosts is None else {name: place for place, name in enumerate(self.hosts.names)}

    @property
    def idle_places(self) -> tuple[int, ...]:
        """Those that no node is on."""
        used = {node.site.host for node in self.nodes if node.site is not None}
        return tuple(place for name, place in self.places.items() if name not in used)

    def to_mermaid(self) -> str:
        """A flowchart in Mermaid's text: a box for each group, an arrow from who calls to whom it calls."""
        return self._topology().to_mermaid()

    def _repr_html_(self) -> str:
        """What a notebook shows: the same as a picture."""
        return self._topology().to_svg()

    def _topology(self) -> Topology:
        from kourou.runtime.graph.topology import Topology, Vertex  # noqa: PLC0415 - for those who look at it

        return Topology.of(
            Vertex(name=node.name, kind=node.kind, inputs=node.inputs, is_child=node.parent is not None)
            for node in self.nodes
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy without the payloads' bytes."""
        nodes = [dataclasses.asdict(node) for node in self.nodes]
        for node in nodes:
            node["placement"] = str(node["placement"])
            if node["process"]:
                node["process"]["env"] = dict(node["process"]["env"])
            if node["site"] is None:
                del node["site"]
        data = {
            "program": self.program,
            "launch_type": str(self.launch_type),
            "terminal": self.terminal,
            "stop": dataclasses.asdict(self.stop),
            "nodes": nodes,
        }
        if self.engine is not None and self.shape is not None:
            data |= {"engine": self.engine.to_dict(), "shape": dataclasses.asdict(self.shape)}
        return data if self.hosts is None else {**data, "hosts": self.hosts.to_dict()}

    def to_json(self) -> str:
        """The plan as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
