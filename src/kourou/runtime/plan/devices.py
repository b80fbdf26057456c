"""Handing out hosts, CPUs and GPUs to the processes of a plan, and what an engine is asked for. Pure."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Mapping, Sequence

from kourou import errors
from kourou.runtime.graph.resources import PythonProcess, Resources
from kourou.runtime.model.engines import EngineOptions, HostNeeds, Shape
from kourou.runtime.model.hosts import Hosts
from kourou.runtime.model.inventory import Allocation, Inventory, Request, allocate
from kourou.runtime.model.names import index_of, label_of
from kourou.runtime.plan.placement import PlacementOf, place
from kourou.runtime.plan.plan import NodePlan, ProcessSpec, Site

__all__ = ["hand_out_devices", "shape_of"]


def shape_of(engine: EngineOptions, hosts: Hosts, plans: Sequence[NodePlan]) -> Shape:
    """What hosts need: devices are handed out from the first on, and who asks for none counts as a CPU."""
    there: dict[str, list[NodePlan]] = {name: [] for name in hosts.names}
    for plan in plans:
        if plan.process is not None and plan.site is not None:
            there[plan.site.host].append(plan)
    each = [_needs_of(engine, those) for those in there.values()]
    cpus, gpus = max(needs.cpus for needs in each), max(needs.gpus for needs in each)
    if engine.uniform:
        each = [dataclasses.replace(needs, cpus=cpus, gpus=gpus) for needs in each]
    return Shape(hosts=len(each), cpus=cpus, gpus=gpus, each=tuple(each))


def _needs_of(engine: EngineOptions, plans: Sequence[NodePlan]) -> HostNeeds:
    """What these need of a host that they share."""
    cpus = gpus = unasked = 0
    memory = []
    for plan in plans:
        assert plan.process is not None and plan.site is not None  # noqa: PT018, S101 - they run there
        unasked += plan.process.cpus is None
        cpus = max(cpus, 1 + max(plan.process.cpus or (-1,)))
        memory.append(plan.process.memory_bytes)
        if plan.site.gpus:
            named = dict(plan.process.env)["CUDA_VISIBLE_DEVICES"]
            gpus = max(gpus, 1 + max(map(int, named.split(","))))
    return HostNeeds(
        cpus=engine.cpus_per_node or max(1, cpus + unasked),
        gpus=gpus if engine.gpus_per_node is None else engine.gpus_per_node,
        memory_bytes=0 if None in memory else sum(each or 0 for each in memory),
    )


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
                (_request(plan.name, resources), _devices_of(plan.process))
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


def _devices_of(spec: ProcessSpec) -> Allocation:
    gpus = dict(spec.env).get("CUDA_VISIBLE_DEVICES")
    return Allocation(cpus=spec.cpus, gpus=tuple(gpus.split(",")) if gpus else None)


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
    env = dict(spec.env)
    if allocation.gpus is not None:
        if "CUDA_VISIBLE_DEVICES" in env:
            raise errors.PlanError(f"resources of {spec.name}: give gpus or CUDA_VISIBLE_DEVICES in env, not both")
        env["CUDA_VISIBLE_DEVICES"] = ",".join(allocation.gpus)
    if allocation.cpus is not None:
        for variable in _THREAD_COUNTS:
            if variable not in os.environ:
                env.setdefault(variable, str(max(1, len(allocation.cpus))))
    return dataclasses.replace(spec, env=tuple(sorted(env.items())), cpus=allocation.cpus)


# Read by OpenMP (torch too), MKL, OpenBLAS and NumExpr; more threads than CPUs make all of them slower.
_THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
