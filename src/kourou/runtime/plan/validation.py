"""What can be wrong with what is asked of compile, as text: a line a mistake."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from kourou import errors
from kourou.runtime.graph.node import Node
from kourou.runtime.graph.program import Program
from kourou.runtime.graph.resources import PythonProcess
from kourou.runtime.model.engines import EngineOptions
from kourou.runtime.model.hosts import Host, Hosts
from kourou.runtime.output.tmux import TMUX_SESSION
from kourou.runtime.plan.allocation import Wanted, wanted_of
from kourou.runtime.plan.launch_type import LaunchType
from kourou.runtime.plan.placement import PlacementOf
from kourou.shown import meant, shown

TERMINALS = ("current_terminal", "output_to_files", TMUX_SESSION)


def check_arguments(
    program: Program, resources: Mapping[str, Any], terminal: str | None, setup: object
) -> Iterator[str]:
    """What is wrong with a program as a whole, and with what its launch says."""
    if not program.get_all_nodes():
        yield f"program {program.name!r} is empty: add nodes with program.add_node(node, label=...)"
    labels = list(program.groups)
    for label, resource in resources.items():
        if label not in labels:
            hint = meant(label, labels, "the labels are:")
            yield f"local_resources[{label!r}]: the program has no such label; {hint}"
        if not isinstance(resource, PythonProcess):
            yield f"local_resources[{label!r}]: Launch config for {label} must be a PythonProcess."
    if terminal is not None and terminal not in TERMINALS:
        yield f"terminal={shown(terminal)} is unknown; known are {', '.join(TERMINALS)}"
    if setup is not None and not callable(setup):
        yield f"setup is a function without arguments, got {shown(setup)}"


def check_hosts(
    program: Program,
    kind: LaunchType,
    engine: EngineOptions | None,
    hosts: Hosts | Sequence[str | Host] | None,
    placement: PlacementOf | None,
    problems: list[str],
) -> Wanted | None:
    """The hosts that the plan spans; notes what is wrong with them."""
    placed = placement if isinstance(placement, Mapping) else {}
    if not kind.hosts:
        if hosts is not None or placement is not None:
            problems.append(f"hosts and placement are for launch_type='ssh' and engines, not for {kind}")
        return None
    if importlib.util.find_spec("cryptography") is None:
        problems.append(f"launch_type={kind.value!r}: nodes speak TLS: {errors.MissingExtra('cryptography', 'tls')}")
    try:
        if kind.engine:
            if engine is None:
                problems.append(f"launch_type={kind.value!r} needs the engine itself, with its options")
            elif hosts is not None:
                problems.append(f"hosts are for launch_type='ssh': {kind} allocates them")
            else:
                return wanted_of(engine, program.groups, placed)
            return None
        if hosts is None:
            problems.append("launch_type='ssh' needs hosts=[...], or hosts=lp.Hosts.from_file(...)")
            return None
        return Wanted(hosts=Hosts.of(hosts), placement={} if placement is None else placement)
    except (errors.GraphError, errors.PlanError) as error:
        problems.append(str(error))
        return None


def check_node(program: Program, node: Node, known: Collection[int]) -> list[str]:
    """What is wrong with a node and its handles; ``known`` are the ids of the program's nodes."""
    problems = [f"{node.name}: {mistake}" for mistake in node.mistakes()]
    for path, handle in node.iterate_handles():
        target = handle.node
        if target is None or id(target) not in known:
            named = handle.node_name or shown(target)
            problems.append(f"{node.name} {path} is a handle of {named}, which is not in program {program.name!r}")
        elif not handle.serves:
            problems.append(
                f"{node.name} {path} is a handle of {target.name}, a {type(target).__name__}, which serves no methods: "
                "make it a CourierNode if others shall call it"
            )
    return problems
