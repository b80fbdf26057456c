"""Nodes for a plan that runs already, compiled like those that it began with. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

from kourou import errors
from kourou.runtime.graph.node import Node
from kourou.runtime.graph.program import Program
from kourou.runtime.graph.resources import PythonProcess
from kourou.runtime.model.inventory import Inventory
from kourou.runtime.model.names import label_of
from kourou.runtime.model.process import Blobs
from kourou.runtime.plan.compile import is_pickled, plan_nodes
from kourou.runtime.plan.devices import hand_out_devices
from kourou.runtime.plan.payloads import Payloads
from kourou.runtime.plan.placement import PlacementOf
from kourou.runtime.plan.plan import LaunchPlan, NodePlan
from kourou.script import names
from kourou.script.definitions import Collector
from kourou.script.names import Scope


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a plan was compiled from, for nodes that are added while it runs. For its fields see compile_program."""

    program: Program
    resources: Mapping[str, PythonProcess]
    serialize_py_nodes: bool | None
    inventory: Inventory | None
    placement: PlacementOf
    setup: Callable[[], object] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Addition:
    """Nodes for a plan that runs already."""

    nodes: tuple[NodePlan, ...]
    blobs: Blobs = dataclasses.field(repr=False)
    scope: Scope = dataclasses.field(repr=False)
    """What these nodes have of the launcher's script; ANYTHING: no less than the others."""


def compile_addition(
    plan: LaunchPlan, recipe: Recipe, nodes: Sequence[Node], others: Sequence[Node], running: Collection[str]
) -> Addition:
    """Plan nodes for a program that runs; start nothing.

    Args:
        plan: what runs.
        recipe: what it was compiled from.
        nodes: the new ones, with their names.
        others: those that are there already, as the program has them.
        running: the names of those of the plan that have not ended: they hold what they were given.

    Raises:
        PlanError: with all mistakes found at once.
    """
    kind = plan.launch_type
    problems: list[str] = []
    payloads = None
    if is_pickled(kind, asked=recipe.serialize_py_nodes):
        payloads = Payloads(one_host=not kind.hosts, like=plan.scope)
    known = {id(member) for node in (*others, *nodes) for member in node.iterate_family()}
    plans = plan_nodes(
        nodes,
        known,
        recipe.program,
        payloads=payloads,
        kind=kind,
        resources=recipe.resources,
        setup=recipe.setup,
        problems=problems,
    )
    if problems:
        raise errors.PlanError(*problems)
    # Forked from a zygote that is there: like the others of their group.
    preload = {label_of(node.name): node.process.preload for node in plan.nodes if node.process is not None}
    plans = [_preloaded(node, preload.get(label_of(node.name))) for node in plans]
    labels = {label_of(node.name) for node in plans}
    placement = {
        label: list(where) if isinstance(where, Mapping) else where for label, where in recipe.placement.items()
    }
    plans = hand_out_devices(
        plans,
        recipe.resources,
        recipe.inventory,
        plan.hosts,
        {label: where for label, where in placement.items() if label in labels},
        [node for node in plan.nodes if node.name in running],
    )
    if payloads is None or kind.threads:
        return Addition(nodes=tuple(plans), blobs={}, scope=names.ANYTHING)
    is_more = isinstance(plan.scope, Collector) and payloads.scope.covers(plan.scope)
    return Addition(nodes=tuple(plans), blobs=payloads.blobs, scope=names.ANYTHING if is_more else payloads.scope)


def _preloaded(node: NodePlan, preload: tuple[str, ...] | None) -> NodePlan:
    if node.process is None or preload is None:
        return node
    return dataclasses.replace(node, process=dataclasses.replace(node.process, preload=preload))
