"""Handing out hosts, CPUs and GPUs to the processes of a plan. Pure."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from kourou import errors
from kourou.runtime.graph.resources import PythonProcess, Resources
from kourou.runtime.model.hosts import Hosts
from kourou.runtime.model.inventory import Allocation, Inventory, Request, allocate
from kourou.runtime.model.names import index_of, label_of
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.plan.placement import PlacementOf, place
from kourou.runtime.plan.plan import NodePlan, Site


def hand_out_devices(
    plans: list[NodePlan],
    resources: Mapping[str, PythonProcess],
    inventory: Inventory | None,
    hosts: Hosts | None,
    placement: PlacementOf,
    running: Sequence[NodePlan] = (),
) -> list[NodePlan]:
    """Hand out hosts, where there are several, and CPUs and GPUs to the processes that ask for some.

    ``running`` are those that have theirs already.
    """
    requests = [_request(plan.name, resources) for plan in plans if plan.process is not None]
    held: dict[str, list[tuple[Request, Allocation]]] = collections.defaultdict(list)
    for plan in running:
        if plan.process is not None:
            held[plan.site.host if plan.site else ""].append(
                (_request(plan.name, resources), Allocation(cpus=plan.process.cpus, gpus=plan.process.gpus))
            )
    sites: Mapping[str, Site] = {}
    if hosts is not None:
        sites, allocations = place(requests, hosts, placement, held)
    elif any(isinstance(resource, Resources) for resource in resources.values()):
        with_gpus = any(request.gpus for request in requests)
        allocations = allocate(requests, inventory or Inventory.of_this_process(with_gpus=with_gpus), held[""])
    else:
        return plans
    equipped = []
    for plan in plans:
        spec = plan.process and _with_devices(plan.process, allocations.get(plan.name, Allocation()))
        equipped.append(dataclasses.replace(plan, process=spec, site=sites.get(plan.name)))
    return equipped


def _request(name: str, resources: Mapping[str, PythonProcess]) -> Request:
    resource = resources.get(label_of(name))
    if not isinstance(resource, Resources):
        return Request(name=name)
    try:
        cpus, gpus = (resource.amount(field, index_of(name)) for field in ("cpus", "gpus"))
    except Exception as error:
        raise errors.PlanError(f"resources of {name}: {error}") from error
    return Request(name=name, cpus=cpus, gpus=gpus)


def _with_devices(spec: ProcessSpec, allocation: Allocation) -> ProcessSpec:
    if allocation.gpus is not None and spec.gpus is not None:
        raise errors.PlanError(f"resources of {spec.name}: give gpus or CUDA_VISIBLE_DEVICES in env, not both")
    return spec.with_devices(allocation.cpus, allocation.gpus)
