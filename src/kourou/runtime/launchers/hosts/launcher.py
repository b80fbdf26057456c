"""Nodes as processes of several hosts."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from kourou import errors
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.first_messages import HostInfo, HostSetup
from kourou.runtime.host_agent.loop import LoopThread
from kourou.runtime.launchers.base import Launcher, LauncherEvents
from kourou.runtime.launchers.hosts.host import HostEvents, RemoteHost
from kourou.runtime.launchers.hosts.transport import Reach, Transport
from kourou.runtime.metrics.shipping import PICTURE, ROWS, receive
from kourou.runtime.model.hosts import Host, Hosts
from kourou.runtime.model.process import Blobs, unneeded_blobs
from kourou.runtime.model.records import INTERRUPT, NO_SIGNAL, ProcessExit
from kourou.runtime.node_environment import RUN_ATTEMPT_VARIABLE, matching_variables
from kourou.runtime.plan.plan import LaunchPlan, NodePlan
from kourou.runtime.plan.relocation import Relocation


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Running:
    host: RemoteHost
    attempt: int


class HostLauncher(HostEvents, Launcher):
    """Runs each process of a plan on the host that the plan says.

    Where one starts is up to :class:`~kourou.runtime.plan.relocation.Relocation`.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        events: LauncherEvents,
        *,
        run_id: str,
        coordinator: tuple[str, int],
        metrics_dir: str,
        reach: Reach,
        authority: Authority,
    ) -> None:
        assert plan.hosts is not None  # noqa: S101 - a plan of this launch type has hosts
        self._plan = plan
        self._events = events
        self._run_id = run_id
        self._metrics_dir = metrics_dir
        self._reach = reach
        self._loop = LoopThread("kourou-tunnel")
        self._coordinator = self._loop, coordinator
        self._wanted: Hosts = plan.hosts
        self._nodes: dict[str, NodePlan] = {node.name: node for node in plan.nodes if node.process is not None}
        self._blobs = dict(plan.blobs)
        self._lock = threading.RLock()
        self._running: dict[str, _Running] = {}
        self._sites = Relocation(plan.hosts, self._is_lost, self._usable_host)
        self._again: set[str] = set()  # hosts that were lost, and called again
        self._hosts: dict[str, RemoteHost] = {}
        self._lost: list[RemoteHost] = []
        self._launcher_address: str | None = None
        self._boot: dict[str, Any] = {}
        self._token = ""
        self._authority = authority
        used = {node.site.host for node in self._nodes.values() if node.site}
        try:
            for host in plan.hosts.all:
                if host.name in used:
                    self._hosts[host.name] = self._connect(host)
        except BaseException:
            self.close()
            raise

    def configure(self, token: str, **boot: Any) -> None:
        """What every node process needs to know; waits until all hosts are there. Set once, before the first start.

        Raises:
            AgentFailedError: a host cannot be reached, with ssh's own words.
            LaunchError: files could not be copied to one.
        """
        self._token, self._boot = token, boot
        infos = [host.await_info() for host in self._hosts.values()]
        self._launcher_address = next((f.launcher_address for f in infos if f.launcher_address), None)
        for host in self._hosts.values():
            host.set_up(self._setup_for(self._sites.hosts[host.name]))

    def add(self, nodes: Sequence[NodePlan], blobs: Blobs) -> None:
        self._blobs.update(blobs)
        self._nodes |= {node.name: node for node in nodes if node.process is not None}

    def forget(self, names: set[str]) -> None:
        """These nodes are gone for good: what they alone would have unpickled is, too."""
        gone = [self._nodes.pop(name).process for name in names & self._nodes.keys()]
        for blob in unneeded_blobs(gone, [node.process for node in self._nodes.values()]):
            self._blobs.pop(blob, None)

    def start(self, name: str, attempt: int) -> None:
        node = self._nodes[name]
        with self._lock:
            where, spec = self._sites.start(node)
            host = self._usable_host(where)
            self._running[name] = _Running(host=host, attempt=attempt)
        self._events.on_placed(name, attempt, host.shown)
        host.start(spec, attempt)

    def withdraw(self, name: str) -> None:
        self._signal(name, NO_SIGNAL, alone=True)

    def interrupt(self, name: str) -> None:
        self._signal(name, INTERRUPT, alone=True)

    def terminate(self, name: str) -> None:
        self._signal(name, signal.SIGTERM)

    def kill(self, name: str) -> None:
        self._signal(name, signal.SIGKILL)

    def close(self) -> None:
        with self._lock:
            for name in list(self._running):
                self._forget(name)
            hosts = [*self._hosts.values(), *self._lost]
        self._reach.close(hosts)
        self._loop.close()

    # -- what hosts tell ----------------------------------------------------------------------------------------

    def on_host_message(self, host: RemoteHost, kind: str, *arguments: Any) -> None:
        if kind in {ROWS, PICTURE}:
            receive(self._metrics_dir, kind, *arguments)
            return
        name, *rest = arguments
        with self._lock:
            running = self._running.get(name)
            if running is None or running.host is not host:
                return
            if kind == "exited":
                self._forget(name)
        if kind == "started":
            self._events.on_started(name, *rest)
        elif kind == "line":
            self._events.on_line(name, *rest)
        else:
            self._events.on_exited(name, *rest)

    def on_host_lost(self, host: RemoteHost, error: errors.KourouError) -> None:
        with self._lock:
            there = {name: self._running[name] for name in self._sites.running_on(host.name)}
            dead = {name: running for name, running in there.items() if running.host is host}
            for name in dead:
                self._forget(name)
        for name, running in dead.items():
            was = "was lost with its host" if host.info else "could not start"
            cause = f"{was}: {error}"
            self._events.on_line(name, f"kourou: {name} {cause}", "stderr")
            self._events.on_exited(name, running.attempt, ProcessExit(code=None, cause=cause))

    def _forget(self, name: str) -> None:
        del self._running[name]
        self._sites.end(name)

    # -- hosts --------------------------------------------------------------------------------------------------

    def _signal(self, name: str, number: int, *, alone: bool = False) -> None:
        with self._lock:
            running = self._running.get(name)
        if running is not None:
            running.host.signal(name, number, alone=alone)

    def _connect(self, host: Host) -> RemoteHost:
        return RemoteHost(
            host.name,
            lambda events: self._reach.connect(host, events),
            self,
            coordinator=self._coordinator,
            blobs=self._blobs,
        )

    def _setup_for(self, host: Host) -> Any:
        def make(info: HostInfo, transport: Transport) -> HostSetup:
            has, wants = len(info.inventory.gpus), host.gpus
            if self._plan.shape is not None and isinstance(wants, int) and has < wants:
                raise errors.LaunchError(f"its agent finds {has} GPUs, where {wants} were asked for")
            address = self._address_of(host, info)
            copied = (*self._wanted.copy_env_vars, RUN_ATTEMPT_VARIABLE)
            variables = {} if transport.local else matching_variables(os.environ, copied)
            return HostSetup(
                run_id=self._run_id,
                boot=self._boot,
                token=self._token,
                authority=self._authority.certificate,
                identity=self._authority.issue(address),
                address=address,
                variables=variables,
                interpreter=sys.executable,
                tree=transport.tree,
                counted=self._plan.engine is not None,
            )

        return make

    def _address_of(self, host: Host, info: HostInfo) -> str:
        """Where nodes of a host listen: this machine's is the one that the others see it at."""
        return host.address or info.address or self._launcher_address or "127.0.0.1"

    def _is_lost(self, name: str) -> bool:
        """Whether a host is lost, or was and has not answered yet."""
        host = self._hosts.get(name)
        return host is not None and (host.lost or (host.info is None and name in self._again))

    def _usable_host(self, name: str) -> RemoteHost:
        """A host that is used for the first time, or again."""
        known = self._hosts.get(name)
        if known is None or known.lost:
            if known is not None:
                self._lost.append(known)
                self._again.add(name)
            host = self._hosts[name] = self._connect(self._sites.hosts[name])
            host.set_up(self._setup_for(self._sites.hosts[name]))
        return self._hosts[name]
