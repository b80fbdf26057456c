"""A plan with more nodes than its program has, on more hosts than there are."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

from kourou.runtime.model.hosts import Host, Hosts
from kourou.runtime.model.inventory import Request
from kourou.runtime.model.names import label_of, root_of
from kourou.runtime.plan.launch_type import LaunchType
from kourou.runtime.plan.placement import place
from kourou.runtime.plan.plan import LaunchPlan, NodePlan

_CPUS, _GPUS = 64, 8  # of each host, for programs that ask for some


def simulated_hosts(count: int) -> Hosts:
    """So many, each with 64 CPUs and 8 GPUs."""
    return Hosts([Host(f"host{number}", cpus=_CPUS, gpus=_GPUS) for number in range(count)])


def enlarged(plan: LaunchPlan, nodes: int) -> LaunchPlan:
    """The plan with its largest group grown until there are at least so many nodes, placed anew.

    Raises:
        PlanError: they do not fit on its hosts.
    """
    assert plan.hosts is not None  # noqa: S101 - a plan of several hosts
    parts: dict[str, list[NodePlan]] = {}
    for node in plan.nodes:
        parts.setdefault(root_of(node.name), []).append(node)
    labels = collections.Counter(map(label_of, parts))
    label, count = max(labels.items(), key=lambda item: item[1])
    template = next(root for root in parts if label_of(root) == label)
    grown = list(plan.nodes)
    while len(grown) < nodes:
        grown += copied(parts[template], template, f"{label}/{count}")
        count += 1
    claims = {node.name: node.site for node in grown if node.process and node.site}
    requests = [Request(name=name, cpus=site.cpus, gpus=site.gpus) for name, site in claims.items()]
    sites, _ = place(requests, plan.hosts, {})
    placed = tuple(dataclasses.replace(node, site=sites.get(node.name)) for node in grown)
    return dataclasses.replace(plan, nodes=placed, launch_type=LaunchType.SSH)


def copied(family: Sequence[NodePlan], template: str, root: str) -> list[NodePlan]:
    """A node of that name, with its parts, planned like another one."""
    return [_copied(node, template, root) for node in family]


def _copied(node: NodePlan, template: str, root: str) -> NodePlan:
    def renamed(name: str) -> str:
        return root + name.removeprefix(template) if root_of(name) == template else name

    return dataclasses.replace(
        node,
        name=renamed(node.name),
        parent=node.parent and renamed(node.parent),
        inputs=tuple(map(renamed, node.inputs)),
        process=node.process and dataclasses.replace(node.process, name=renamed(node.name)),
    )
