"""Which process runs on which host now, and where one starts when its own host is lost."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable

from kourou import errors
from kourou.runtime.model.hosts import Host, Hosts
from kourou.runtime.model.inventory import Allocation, Inventory, Request, allocate
from kourou.runtime.model.names import root_of
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.plan.plan import NodePlan, Site

_FIRST_CALL_S = 60.0  # after a host was seen to be lost
_LONGEST_PAUSE_S = 1800.0  # between two calls


class Relocation:
    """The processes of a plan that spans hosts, by host.

    A node starts on its host, if that is there; else on another one that its group may use, where there is what it asks
    for; else its host is called again. Whenever a node looks for another host, those that are lost are called again,
    now and then: one that is back is used as before, and others are not filled for good.
    """

    def __init__(
        self,
        hosts: Hosts,
        is_lost: Callable[[str], bool],
        call_again: Callable[[str], object],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.hosts = {host.name: host for host in hosts.all}
        self._is_lost = is_lost
        self._call_again = call_again
        self._now = now
        self._calls: dict[str, tuple[float, float]] = {}  # of lost hosts: the next one, and seconds until that after it
        self._running: dict[str, dict[str, ProcessSpec]] = {name: {} for name in self.hosts}
        self._host_of: dict[str, str] = {}
        self._parts: dict[str, set[str]] = collections.defaultdict(set)  # that run, of each root

    def start(self, node: NodePlan) -> tuple[str, ProcessSpec]:
        """A node starts: where, and with which devices."""
        spec, site = node.process, node.site
        assert spec is not None and site is not None  # noqa: PT018, S101 - those without are not started on hosts
        self.end(node.name)
        name, spec = self._choose(node.name, site, spec)
        self._running[name][node.name] = spec
        self._host_of[node.name] = name
        self._parts[root_of(node.name)].add(node.name)
        return name, spec

    def end(self, name: str) -> None:
        """It runs no more."""
        host = self._host_of.pop(name, None)
        if host is not None:
            del self._running[host][name]
            self._parts[root_of(name)].discard(name)

    def host_of(self, name: str) -> str | None:
        """Where it runs; None: nowhere."""
        return self._host_of.get(name)

    def running_on(self, host: str) -> list[str]:
        """Who runs there."""
        return list(self._running[host])

    def _choose(self, name: str, site: Site, spec: ProcessSpec) -> tuple[str, ProcessSpec]:
        if not self._is_lost(site.host):
            return site.host, spec
        # What belongs together starts together: a sibling may have moved just now.
        others = [each for each in self.hosts if each != site.host] if site.others is None else site.others
        for lost in filter(self._is_lost, (site.host, *others)):
            self._call_now_and_then(lost)
        preferred = {self._host_of[part] for part in self._parts[root_of(name)]}
        for other in sorted(others, key=lambda each: (each not in preferred, len(self._running[each]))):
            devices = None if self._is_lost(other) else self._free_devices(self.hosts[other], site)
            if devices is not None:
                return other, spec.with_devices(devices.cpus, devices.gpus)
        return site.host, spec

    def _call_now_and_then(self, lost: str) -> None:
        due, pause_s = self._calls.setdefault(lost, (self._now() + _FIRST_CALL_S, _FIRST_CALL_S))
        if self._now() >= due:
            self._calls[lost] = self._now() + pause_s, min(2 * pause_s, _LONGEST_PAUSE_S)
            self._call_again(lost)

    def _free_devices(self, host: Host, site: Site) -> Allocation | None:
        """What a process would get of a host that it was not planned for; None where there is not enough."""
        there = self._running[host.name].values()
        if host.slots is not None and len(there) >= host.slots:
            return None
        if site.cpus is None and site.gpus is None:
            return Allocation()
        cpus = {cpu for spec in there for cpu in spec.cpus or ()}
        gpus = {gpu for spec in there for gpu in spec.gpus or ()}
        has = host.inventory or Inventory(cpus=())
        left = Inventory(
            cpus=tuple(cpu for cpu in has.cpus if cpu not in cpus),
            gpus=tuple(gpu for gpu in has.gpus if gpu not in gpus),
        )
        try:
            return allocate([Request(name="it", cpus=site.cpus, gpus=site.gpus)], left)["it"]
        except errors.PlanError:
            return None
