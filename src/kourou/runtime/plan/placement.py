"""Which process runs on which host: as the user says, else where there is most room. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from kourou import errors
from kourou.runtime.model.hosts import Host, Hosts
from kourou.runtime.model.inventory import Allocation, Request, allocate
from kourou.runtime.model.names import label_of, root_of
from kourou.runtime.plan.plan import Site
from kourou.shown import shown

PlacementOf: TypeAlias = "Mapping[str, str | Sequence[str] | Mapping[str, int]]"
"""Label → a host, several hosts of which each node takes one, or how many of its processes each host gets."""


Held: TypeAlias = "Sequence[tuple[Request, Allocation]]"
"""What processes asked for, and have."""


def place(
    requests: Sequence[Request], hosts: Hosts, placement: PlacementOf, held: Mapping[str, Held] = MappingProxyType({})
) -> tuple[dict[str, Site], dict[str, Allocation]]:
    """Choose a host for every process.

    A node goes where there is least: the fewest processes for each CPU, as far as CPUs are known; among equals, to the
    host that was named first. The processes of one colocation stay together, unless their label says how many go where.

    Args:
        requests: one for each process, in the order of the program; the result depends on nothing else.
        hosts: what there is.
        placement: what the user said, by label.
        held: host → what runs there already.

    Returns:
        process name → where it runs, and what it gets of that host.

    Raises:
        PlanError: a label or host is unknown, or there is no room; with all mistakes found at once.
    """
    problems = _check(requests, hosts, placement)
    if problems:
        raise errors.PlanError(*problems)
    capacities = {host.name: _Capacity(host, held.get(host.name, ())) for host in hosts.all}
    sites: dict[str, Site] = {}
    counted = {
        label: [name for name, count in counts.items() for _ in range(count)]
        for label, counts in placement.items()
        if isinstance(counts, Mapping)
    }
    for root, parts in _by_root(requests).items():
        label = label_of(root)
        if label in counted:
            for request in parts:
                sites[request.name] = _choose_site([request], [capacities[counted[label].pop(0)]], problems)
            allowed = list(placement[label])
        else:
            allowed = hosts_named(placement.get(label, hosts.names))
            site = _choose_site(parts, [capacities[name] for name in allowed], problems)
            sites.update(dict.fromkeys((part.name for part in parts), site))
        for part in parts:
            host = sites[part.name].host
            others = tuple(name for name in allowed if name != host) if label in placement else None
            sites[part.name] = Site(host=host, others=others, cpus=part.cpus, gpus=part.gpus)
    if problems:
        raise errors.PlanError(*problems)
    allocations: dict[str, Allocation] = {}
    for capacity in capacities.values():
        allocations.update(capacity.allocations())
    return sites, allocations


class _Capacity:
    """One host, as it fills."""

    def __init__(self, host: Host, held: Held) -> None:
        self.host = host
        self.requests: list[Request] = []
        self._held = held
        self.load = 0.0
        """Processes for each CPU."""
        self.take(())

    def take(self, parts: Sequence[Request]) -> None:
        """Place these here."""
        inventory = self.host.inventory
        self.requests += parts
        self.load = self._count / max(1, len(inventory.cpus) if inventory else 1)

    @property
    def _count(self) -> int:
        return len(self._held) + len(self.requests)

    def allocations(self) -> dict[str, Allocation]:
        return self._allocate(self.requests)

    def refusal(self, parts: Sequence[Request]) -> str | None:
        """Why these do not fit, too; None when they do."""
        slots = self.host.slots
        if slots is not None and self._count + len(parts) > slots:
            return f"{self.host.name} has slots for {slots}, and {self._count} are taken"
        try:
            self._allocate([*self.requests, *parts])
        except errors.PlanError as error:
            return f"{self.host.name}: {error}"
        return None

    def _allocate(self, requests: Sequence[Request]) -> dict[str, Allocation]:
        claims = [request for request in requests if request.cpus is not None or request.gpus is not None]
        if not claims:
            return {}
        inventory = self.host.inventory
        if inventory is None:
            raise errors.PlanError(f"it is not known what it has: lp.Host({self.host.name!r}, cpus=…, gpus=…)")
        return allocate(claims, inventory, self._held)


def _choose_site(parts: Sequence[Request], capacities: Sequence[_Capacity], problems: list[str]) -> Site:
    """Put these processes on one of the hosts; where none has room, on the first, with a problem noted."""
    refusals = []
    for capacity in sorted(capacities, key=lambda each: each.load):  # whether one has room costs more than its load
        refusal = capacity.refusal(parts)
        if refusal is None:
            capacity.take(parts)
            return Site(host=capacity.host.name)
        refusals.append(refusal)
    what = parts[0].name if len(parts) == 1 else f"the {len(parts)} processes of {root_of(parts[0].name)}"
    problems.append(f"{what}: no host has room; " + "; ".join(refusals))
    return Site(host=capacities[0].host.name)


def _check(requests: Sequence[Request], hosts: Hosts, placement: PlacementOf) -> list[str]:
    if not isinstance(placement, Mapping):
        return [f"placement is a mapping of labels to hosts, got {shown(placement)}"]
    counts: dict[str, int] = {}
    for request in requests:
        counts[label_of(request.name)] = counts.get(label_of(request.name), 0) + 1
    problems = []
    for label, where in placement.items():
        if label not in counts:
            problems.append(f"placement[{label!r}]: the program has no such label; it has {', '.join(counts)}")
        elif mistake := _mistake(where, counts[label], hosts):
            problems.append(f"placement[{label!r}]{mistake}")
    return problems


def _mistake(where: str | Sequence[str] | Mapping[str, int], count: int, hosts: Hosts) -> str | None:
    named = hosts_named(where)
    unknown = [name for name in named if name not in hosts.names]
    if not named:
        return " names no host"
    if unknown:
        return f": {', '.join(unknown)} is none of the hosts {', '.join(hosts.names)}"
    if isinstance(where, Mapping):
        whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in where.values())
        if not whole or sum(where.values()) != count:
            return f" has to give a host to each of its {count} processes, got {shown(dict(where))}"
    return None


def hosts_named(where: str | Sequence[str] | Mapping[str, int]) -> list[str]:
    """The hosts that are named for one label."""
    return [where] if isinstance(where, str) else [str(name) for name in where]


def _by_root(requests: Sequence[Request]) -> dict[str, list[Request]]:
    roots: dict[str, list[Request]] = {}
    for request in requests:
        roots.setdefault(root_of(request.name), []).append(request)
    return roots
