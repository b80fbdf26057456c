"""What an engine is asked for: hosts for all groups of a program, of several kinds where groups say so. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from kourou import errors
from kourou.runtime.model.engines import EngineOptions, HostNeeds, Shape
from kourou.runtime.model.hosts import Host, Hosts
from kourou.runtime.plan.launch_type import LaunchType
from kourou.runtime.plan.placement import PlacementOf, hosts_named
from kourou.runtime.plan.plan import LaunchPlan, NodePlan

_MOST_CPUS, _MOST_GPUS = 1024, 64  # of a host, while nobody has said how many it shall have
_HOST = "host"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Hosts that are alike."""

    options: EngineOptions
    """What these are asked for with."""
    group: str
    """The first of the groups that have them; "": those that the options say nothing of."""
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """The places of an allocation, and which of them a group may use."""

    hosts: Hosts
    placement: PlacementOf
    parts: tuple[Part, ...] = ()


def wanted_of(engine: EngineOptions, labels: Iterable[str], placement: PlacementOf) -> Wanted:
    """The hosts that a placement names, and others up to ``nodes``; groups whose hosts are of one kind share them.

    Raises:
        PlanError: it names more than there are to be, or one host of two kinds.
        GraphError: what is said of a group has no meaning.
    """
    usual = engine.of_group("")
    kinds: list[tuple[EngineOptions, list[str]]] = [(usual, [])]
    for label in labels:
        options = engine.of_group(label)
        alike = next((others for known, others in kinds if known == options), None)
        if alike is None:
            kinds.append((options, [label]))
        else:
            alike.append(label)
    if len(kinds) > 1 and not kinds[0][1]:
        del kinds[0]
    parts, placed = [], dict(placement)
    for options, who in kinds:
        group = "" if options == usual else who[0]
        mine = placement if len(kinds) == 1 else {label: placement[label] for label in who if label in placement}
        names = _names(options, mine, group or _HOST)
        parts.append(Part(options=options, group=group, names=names))
        if len(kinds) > 1:  # each of its labels is restricted to them
            placed = {**dict.fromkeys(who, names), **placed}
    return _wanted(engine, placed, parts)


def _names(options: EngineOptions, placement: PlacementOf, prefix: str) -> tuple[str, ...]:
    names = dict.fromkeys(name for where in placement.values() for name in hosts_named(where))
    count = max(len(names), 1) if options.nodes is None else options.nodes
    if len(names) > count:
        raise errors.PlanError(f"placement names {len(names)} hosts ({', '.join(names)}), and nodes={count}")
    number = 0
    while len(names) < count:
        names.setdefault(f"{prefix}{number}")
        number += 1
    return tuple(names)


def _wanted(engine: EngineOptions, placement: PlacementOf, parts: Sequence[Part]) -> Wanted:
    names = [name for part in parts for name in part.names]
    if twice := {name for name in names if names.count(name) > 1}:
        raise errors.PlanError(
            f"placement puts groups on {', '.join(sorted(twice))} whose hosts are of different kinds"
        )
    sized = [
        Host(
            name,
            cpus=_MOST_CPUS if part.options.cpus_per_node is None else part.options.cpus_per_node,
            gpus=_MOST_GPUS if part.options.gpus_per_node is None else part.options.gpus_per_node,
        )
        for part in parts
        for name in part.names
    ]
    hosts = Hosts(sized, lost_after_s=engine.lost_after_s, copy_env_vars=engine.copy_env_vars)
    return Wanted(hosts=hosts, placement=placement, parts=tuple(parts))


def shape_of(wanted: Wanted, plans: Sequence[NodePlan]) -> tuple[Shape, Hosts]:
    """What is asked for, and the hosts with what they will have.

    Devices are handed out from the first on, and who asks for none counts as a CPU.
    """
    there: dict[str, list[NodePlan]] = {name: [] for name in wanted.hosts.names}
    for plan in plans:
        if plan.process is not None and plan.site is not None:
            there[plan.site.host].append(plan)
    each: list[HostNeeds] = []
    for part in wanted.parts:
        needs = [_needs_of(part, there[name]) for name in part.names]
        if part.options.uniform:
            cpus, gpus = max(one.cpus for one in needs), max(one.gpus for one in needs)
            needs = [dataclasses.replace(one, cpus=cpus, gpus=gpus) for one in needs]
        each += needs
    sized = [Host(name, cpus=one.cpus, gpus=one.gpus) for name, one in zip(there, each, strict=True)]
    cpus, gpus = max(one.cpus for one in each), max(one.gpus for one in each)
    whole = Shape(hosts=len(each), cpus=cpus, gpus=gpus, each=tuple(each))
    return whole, dataclasses.replace(wanted.hosts, hosts=sized)


def plan_of_hosts(name: str, engine: EngineOptions, shape: Shape) -> LaunchPlan:
    """A plan without nodes, for who has other work for an engine's hosts: ``host0`` and so on, all alike."""
    hosts = [Host(f"{_HOST}{number}", cpus=shape.cpus, gpus=shape.gpus) for number in range(shape.hosts)]
    return LaunchPlan(
        program=name,
        launch_type=LaunchType(engine.launch_type),
        nodes=(),
        hosts=Hosts(hosts, lost_after_s=engine.lost_after_s, copy_env_vars=engine.copy_env_vars),
        engine=engine,
        shape=shape,
    )


def _needs_of(part: Part, plans: Sequence[NodePlan]) -> HostNeeds:
    """What these need of a host that they share."""
    cpus = gpus = unasked = 0
    memory = []
    for plan in plans:
        assert plan.process is not None and plan.site is not None  # noqa: PT018, S101 - they run there
        unasked += plan.process.cpus is None
        cpus = max(cpus, 1 + max(plan.process.cpus or (-1,)))
        memory.append(plan.process.memory_bytes)
        if plan.site.gpus:
            gpus = max(gpus, 1 + max(map(int, plan.process.gpus or ())))
    options = part.options
    return HostNeeds(
        group=part.group,
        cpus=options.cpus_per_node or max(1, cpus + unasked),
        gpus=gpus if options.gpus_per_node is None else options.gpus_per_node,
        memory_bytes=0 if None in memory else sum(each or 0 for each in memory),
    )
