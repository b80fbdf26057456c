"""Simulated hosts, and a launcher that starts processes on them: what dies with a host, and when that is known.

It does what the launcher over ssh does: an agent on each host, which ends what it runs when it has not heard of the
launcher for a while; a host that is silent for a little longer is lost, and is called again only if need be.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable
from typing import TypeAlias

from kourou.runtime.launchers.base import LauncherEvents
from kourou.runtime.model.hosts import Hosts
from kourou.runtime.model.records import NO_SIGNAL, ProcessExit
from kourou.runtime.plan.plan import LaunchPlan, NodePlan, Placement
from kourou.runtime.plan.relocation import Relocation
from kourou.runtime.simulation.processes import Process, World

_Act: TypeAlias = Callable[[Process], None]
_FORK_S = 0.005  # of a process, one after another on each host
_CONNECT_S = 1.0
_AGENT_PATIENCE = 0.8  # of the launcher's: an agent ends what it runs before that is started elsewhere


@dataclasses.dataclass(eq=False)
class SimulatedHost:
    """A host, and the launcher's connection to its agent."""

    name: str
    is_up: bool = True
    cut_until: float = 0.0
    lost: bool = False  # as the launcher sees it
    answers: bool = True  # when it is called
    called_until: float = 0.0  # when it will have answered, or not
    connection: int = 1  # counts them
    free_at: float = 0.0  # when it can fork the next process
    processes: dict[str, Process] = dataclasses.field(default_factory=dict)


class SimulatedLauncher:
    """What a launcher does, but for nodes that are gone for good, and payloads: there are none."""

    def __init__(self, plan: LaunchPlan, hosts: Hosts, events: LauncherEvents, world: World) -> None:
        self.hosts = {name: SimulatedHost(name) for name in hosts.names}
        self.decisions: collections.Counter[str] = collections.Counter()
        self._nodes: dict[str, NodePlan] = {}
        self._lost_after_s = hosts.lost_after_s
        self._connect_timeout_s = hosts.connect_timeout_s
        self._events = events
        self._world = world
        self._clock = world.clock
        self._chance = world.chance
        self._faults = world.faults
        self._threads: dict[str, list[str]] = collections.defaultdict(list)  # of each process
        self.add(plan.nodes)
        self._attempts: dict[str, int] = {}  # of those that run, as far as the launcher knows
        self._sites = Relocation(hosts, self._is_lost, self._call_again, lambda: self._clock.now)

    # -- what the director asks for -------------------------------------------------------------------------------

    def add(self, nodes: Iterable[NodePlan]) -> None:
        """There are these nodes as well."""
        for node in nodes:
            if node.process is not None:
                self._nodes[node.name] = node
            if node.placement is Placement.IN_PARENT and node.parent:
                self._threads[node.parent].append(node.name)

    def start(self, name: str, attempt: int) -> None:
        """Start a node of the plan."""
        node = self._nodes[name]
        where, _ = self._sites.start(node)
        host = self.hosts[where]
        self._attempts[name] = attempt
        if node.site is not None and where != node.site.host:
            self.decisions["started on another host"] += 1
        self._call_again(where)
        self._events.on_placed(name, attempt, where)
        self._to_host(host, self._fork, node, attempt)

    def signal(self, name: str, number: int) -> None:
        """Signal a node's process, which begins as soon as its host hears of it, so that none can be withdrawn."""
        if number != NO_SIGNAL:
            self._to_process(name, lambda process: process.signal(number))

    def close(self) -> None:
        """There is nothing to give back."""

    # -- what happens to hosts ------------------------------------------------------------------------------------

    def die(self, host: SimulatedHost) -> None:
        """A host is gone, with all that runs on it, and comes back after a while."""
        if not host.is_up:
            return
        host.is_up = False
        self._end_all(host)
        # Its address may answer that there is nobody, or nothing at all.
        noticed_s = self._chance.choice((0.01, self._lost_after_s))
        self._clock.after(noticed_s, self._lose, host, host.connection)
        self._clock.after(self._faults.host_away_s, self._come_back, host)

    def cut_off(self, host: SimulatedHost, seconds: float) -> None:
        """Nothing reaches a host for so long, nor leaves it; then what was said arrives."""
        if host.cut_until > self._clock.now:
            return  # it is cut off already
        host.cut_until = self._clock.now + seconds
        patience_s = _AGENT_PATIENCE * self._lost_after_s
        if seconds > patience_s:
            self._clock.after(patience_s, self._give_up, host, host.connection)
            self._clock.after(min(seconds, self._lost_after_s), self._lose, host, host.connection)

    def _come_back(self, host: SimulatedHost) -> None:
        host.is_up = True

    def _give_up(self, host: SimulatedHost, connection: int) -> None:
        if host.connection == connection:
            self._end_all(host)

    def _end_all(self, host: SimulatedHost) -> None:
        for process in list(host.processes.values()):
            process.vanish()
        host.processes.clear()

    def _lose(self, host: SimulatedHost, connection: int) -> None:
        if host.connection != connection or host.lost:
            return
        host.lost = True
        self.decisions["host lost"] += 1
        for name in self._sites.running_on(host.name):
            self._tell_exit(name, ProcessExit(code=None, cause=f"was lost with its host: {host.name} is silent"))

    def _is_lost(self, name: str) -> bool:
        host = self.hosts[name]
        return host.lost or self._clock.now < host.called_until

    def _call_again(self, name: str) -> None:
        host = self.hosts[name]
        if not host.lost:
            return
        host.connection += 1
        host.lost = False
        self.decisions["host called again"] += 1
        host.answers = host.is_up and host.cut_until <= self._clock.now
        if host.answers:
            host.free_at = host.called_until = self._clock.now + _CONNECT_S
        else:
            host.called_until = self._clock.now + self._connect_timeout_s
            self._clock.after(self._connect_timeout_s, self._lose, host, host.connection)

    # -- messages between launcher and hosts ----------------------------------------------------------------------

    def _to_host(self, host: SimulatedHost, call: Callable[..., None], *args: object) -> None:
        self._pass_on(host, call, host, host.connection, *args)

    def _pass_on(self, host: SimulatedHost, call: Callable[..., None], *args: object) -> None:
        delay_s = self._chance.expovariate(1 / self._faults.delay_s) if self._faults.delay_s else 0.0
        self._clock.at(max(self._clock.now, host.cut_until) + delay_s, call, *args)

    def _fork(self, host: SimulatedHost, connection: int, node: NodePlan, attempt: int) -> None:
        if not self._is_there(host, connection):
            return
        host.free_at = max(host.free_at, self._clock.now) + _FORK_S
        self._clock.at(host.free_at, self._begin, host, connection, node, attempt)

    def _begin(self, host: SimulatedHost, connection: int, node: NodePlan, attempt: int) -> None:
        if not self._is_there(host, connection) or node.name in host.processes:
            return
        process = host.processes[node.name] = Process(node, attempt, host, self._threads[node.name], self._world)
        process.on_end = lambda exit: self._ended(host, connection, process, exit)  # noqa: A006 - it is an exit
        process.begin()
        self._pass_on(host, self._tell_started, host, connection, node.name, attempt, process.pid)

    def _is_there(self, host: SimulatedHost, connection: int) -> bool:
        return host.is_up and host.answers and host.connection == connection and not host.lost

    def _ended(self, host: SimulatedHost, connection: int, process: Process, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        if host.processes.get(process.node.name) is process:
            del host.processes[process.node.name]
        self._pass_on(host, self._hear_exit, host, connection, process.node.name, exit)

    def _to_process(self, name: str, do: _Act) -> None:
        attempt = self._attempts.get(name)
        host = self.hosts.get(self._sites.host_of(name) or "")
        if attempt is not None and host is not None:
            self._to_host(host, self._act, name, attempt, do)

    def _act(self, host: SimulatedHost, connection: int, name: str, attempt: int, do: _Act) -> None:
        if not self._is_there(host, connection):
            return
        if host.free_at > self._clock.now:  # it may be about to be forked: an agent does one thing after another
            self._clock.at(host.free_at, self._act_now, host, name, attempt, do)
        else:
            self._act_now(host, name, attempt, do)

    def _act_now(self, host: SimulatedHost, name: str, attempt: int, do: _Act) -> None:
        process = host.processes.get(name)
        if process is not None and process.attempt == attempt:
            do(process)

    def _tell_started(self, host: SimulatedHost, connection: int, name: str, attempt: int, pid: int) -> None:
        if self._is_there(host, connection):
            self._events.on_started(name, attempt, pid)

    def _hear_exit(self, host: SimulatedHost, connection: int, name: str, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        if self._is_there(host, connection) and self._sites.host_of(name) == host.name:
            self._tell_exit(name, exit)

    def _tell_exit(self, name: str, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        self._sites.end(name)
        attempt = self._attempts.pop(name, None)
        if attempt is not None:
            self._events.on_exited(name, attempt, exit)
