"""The hosts of a plan, as a Supervisor of processes on all of them: who is reached, and which process runs where."""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from typing import Any

from kourou import errors
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.first_messages import HostInfo, HostSetup
from kourou.runtime.host_agent.loop import LoopThread
from kourou.runtime.launchers.hosts.host import HostEvents, RemoteHost
from kourou.runtime.launchers.hosts.transport import Reach, Transport
from kourou.runtime.model.hosts import Host
from kourou.runtime.model.records import ProcessExit
from kourou.runtime.node_environment import RUN_ATTEMPT_VARIABLE, matching_variables
from kourou.runtime.plan.plan import LaunchPlan
from kourou.runtime.process.supervisor import ProcessEvents


class HostPool(HostEvents):
    """Starts processes on hosts. One that is lost takes its processes with it; whoever needs it connects it again.

    Args:
        plan: whose hosts.
        events: told of everything that happens.
        run_id: marks every process.
        reach: leads to the hosts' agents.
        authority: signs what servers of processes prove themselves with.
        coordinator: see :class:`RemoteHost`.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        events: ProcessEvents,
        *,
        run_id: str,
        reach: Reach,
        authority: Authority,
        coordinator: tuple[LoopThread, tuple[str, int]] | None = None,
    ) -> None:
        assert plan.hosts is not None  # noqa: S101 - whoever makes this has looked
        self._plan = plan
        self._wanted = {host.name: host for host in plan.hosts.all}
        self._copied = (*plan.hosts.copy_env_vars, RUN_ATTEMPT_VARIABLE)
        self._events = events
        self._run_id = run_id
        self._reach = reach
        self._authority = authority
        self._coordinator = coordinator
        self._blobs = dict(plan.blobs)
        self._boot: dict[str, Any] = {}
        self._token = ""
        self._launcher_address: str | None = None
        self._lock = threading.RLock()
        self._hosts: dict[str, RemoteHost] = {}
        self._lost: list[RemoteHost] = []
        self._running: dict[str, RemoteHost] = {}

    def _connect(self, name: str) -> RemoteHost:
        """Reach a host for the first time, or again."""
        if (known := self._hosts.get(name)) is not None:
            self._lost.append(known)
        connect = partial(self._reach.connect, self._wanted[name])
        host = self._hosts[name] = RemoteHost(name, connect, self, coordinator=self._coordinator, blobs=self._blobs)
        return host

    def _set_up(self, host: RemoteHost) -> None:
        """Tell a host of the run; before its first process."""
        host.set_up(partial(self._setup, self._wanted[host.name]))

    def _setup(self, host: Host, info: HostInfo, transport: Transport) -> HostSetup:
        has, wants = len(info.inventory.gpus), host.gpus
        if self._plan.shape is not None and isinstance(wants, int) and has < wants:
            raise errors.LaunchError(f"its agent finds {has} GPUs, where {wants} were asked for")
        # Where its nodes listen: those of this machine do where the others see it.
        address = host.address or info.address or self._launcher_address or "127.0.0.1"
        return HostSetup(
            run_id=self._run_id,
            boot=self._boot,
            token=self._token,
            authority=self._authority.certificate,
            identity=self._authority.issue(address),
            address=address,
            variables={} if transport.local else matching_variables(os.environ, self._copied),
            interpreter=sys.executable,
            tree=transport.tree,
            counted=self._plan.engine is not None,
        )

    def _note(self, host: RemoteHost, name: str, attempt: int) -> None:
        """It is about to start there. The caller has the lock."""
        self._running[name] = host
        host.running[name] = attempt

    def signal(self, name: str, number: int) -> None:
        """As :meth:`Supervisor.signal <kourou.runtime.process.supervisor.Supervisor.signal>`."""
        with self._lock:
            host = self._running.get(name)
        if host is not None:
            host.signal(name, number)

    def close(self) -> None:
        """End all agents and what they run, untold."""
        with self._lock:
            for name in list(self._running):
                self._forget(name)
            hosts = [*self._hosts.values(), *self._lost]
        self._reach.close(hosts)

    # -- what hosts tell ----------------------------------------------------------------------------------------

    def on_host_message(self, host: RemoteHost, kind: str, *arguments: Any) -> None:
        name, *rest = arguments
        with self._lock:
            if self._running.get(name) is not host:
                return
            if kind == "exited":
                self._forget(name)
        if kind == "started":
            self._events.on_started(name, *rest)
        elif kind == "line":
            self._events.on_line(name, *rest)
        elif kind == "exited":
            self._events.on_exited(name, *rest)

    def on_host_lost(self, host: RemoteHost, error: errors.KourouError) -> None:
        with self._lock:
            dead = dict(host.running)
            for name in dead:
                self._forget(name)
        for name, attempt in dead.items():
            was = "was lost with its host" if host.info else "could not start"
            cause = f"{was}: {error}"
            self._events.on_line(name, f"kourou: {name} {cause}", "stderr")
            self._events.on_exited(name, attempt, ProcessExit(code=None, cause=cause))

    def _forget(self, name: str) -> None:
        del self._running.pop(name).running[name]
