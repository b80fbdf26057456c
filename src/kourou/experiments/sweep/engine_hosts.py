"""Runs on hosts that an engine allocates: each host's agent does there what a Supervisor does on this one."""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kourou import errors
from kourou.experiments.failures import SweepError
from kourou.experiments.sweep.slots import Slot
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.host_agent.first_messages import HostInfo, HostSetup
from kourou.runtime.launchers.engines.reach import EngineReach
from kourou.runtime.launchers.hosts.host import HostEvents, RemoteHost
from kourou.runtime.model.engines import EngineOptions, Shape
from kourou.runtime.model.hosts import Host
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.records import ProcessExit
from kourou.runtime.node_environment import matching_variables
from kourou.runtime.plan.allocation import plan_of_hosts
from kourou.runtime.process.preload import Preload
from kourou.runtime.process.supervisor import ProcessEvents

if TYPE_CHECKING:
    from typing_extensions import Self

_FIRST_CALL_S = 1.0  # after a host was lost
_LONGEST_PAUSE_S = 300.0  # between two calls
_CALLS = 3  # in vain, of all hosts: then the allocation is taken for gone


class EngineHosts(HostEvents):
    """What a :class:`Scheduler` has in place of a Supervisor. Entered, it asks for the hosts, and waits for them.

    A host that is lost takes its runs with it, and is called again; until it answers it gets no other.

    Args:
        events: told of everything that happens.
        run_id: marks every process.
        folder: the sweep's, for the engine's scripts and for what it says.
        preload: not used: hosts prepare themselves.
        engine: allocates the hosts.
        shape: what is asked for.
    """

    def __init__(
        self,
        events: ProcessEvents,
        *,
        run_id: str,
        folder: Path,
        preload: Preload,
        engine: EngineOptions,
        shape: Shape,
    ) -> None:
        del preload
        self._events = events
        self._run_id = run_id
        self._folder = folder
        self._authority = Authority()
        self._order = DialOrder(token=secrets.token_hex(16), silence_s=engine.lost_after_s, run_id=run_id)
        self._plan = plan_of_hosts(folder.name, engine, shape)
        assert self._plan.hosts is not None  # noqa: S101 - it has nothing else
        self._wanted = self._plan.hosts
        self._lock = threading.RLock()
        self._hosts: dict[str, RemoteHost] = {}
        self._lost: list[RemoteHost] = []
        self._calls: dict[str, tuple[int, float]] = {}  # of lost hosts: how often, and when again
        self._running: dict[str, tuple[RemoteHost, int]] = {}
        self._reach: EngineReach | None = None

    def __enter__(self) -> Self:
        self._reach = EngineReach(
            self._plan,
            self._order,
            folder=self._folder,
            authority=self._authority,
        )
        try:
            self._reach.allocate()
            for host in self._wanted.all:
                self._connect(host)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._reach is not None  # noqa: S101 - it was entered
        with self._lock:
            self._running.clear()
        self._reach.close([*self._hosts.values(), *self._lost])
        self._reach.release()

    def prepare(self) -> None:
        """See :class:`Supervisor`; each host does it when it is there."""

    def start(self, spec: ProcessSpec, attempt: int, boot: Mapping[str, Any], host: str) -> None:
        """Start a run's process on a host."""
        with self._lock:
            there = self._hosts[host]
            self._running[spec.name] = there, attempt
        if there.lost:  # since the scheduler asked
            self._end(spec.name, errors.AgentFailedError(f"{there.shown}: it is lost"))
        else:
            there.start(spec, attempt, boot)

    def signal(self, name: str, number: int) -> None:
        """Signal a run and all that it started."""
        with self._lock:
            running = self._running.get(name)
        if running is not None:
            running[0].signal(name, number, alone=False)

    def shown(self, host: str) -> str:
        """What the engine calls a host."""
        return self._hosts[host].shown

    def refusal(self, slot: Slot) -> str:
        """Why a slot's host cannot be had now; "": it can.

        Raises:
            SweepError: none can, and none comes back.
        """
        assert slot.host is not None  # noqa: S101 - slots of an engine's hosts have one
        host = self._hosts[slot.host]
        if not host.lost:
            return "" if host.info is not None else f"{host.shown}: its agent has not called yet"
        count, due = self._calls.setdefault(slot.host, (0, time.monotonic() + _FIRST_CALL_S))
        if time.monotonic() >= due:
            if count >= _CALLS and all(each.lost for each in self._hosts.values()):
                raise SweepError(f"all hosts are lost; the last words: {host.loss}; the same call goes on where it was")
            self._calls[slot.host] = count + 1, time.monotonic() + min(_FIRST_CALL_S * 10**count, _LONGEST_PAUSE_S)
            self._lost.append(host)
            self._connect(next(each for each in self._wanted.all if each.name == slot.host))
        return f"{host.shown} is lost, and called again"

    # -- what hosts tell ----------------------------------------------------------------------------------------

    def on_host_message(self, host: RemoteHost, kind: str, *arguments: Any) -> None:
        name, *rest = arguments
        with self._lock:
            known = self._running.get(name, (None, 0))[0] is host
            if known and kind == "exited":
                del self._running[name]
        if known and kind in {"started", "line", "exited"}:
            getattr(self._events, f"on_{kind}")(name, *rest)

    def on_host_lost(self, host: RemoteHost, error: errors.KourouError) -> None:
        with self._lock:
            dead = [name for name, (where, _) in self._running.items() if where is host]
        for name in dead:
            self._end(name, error)

    def _end(self, name: str, error: errors.KourouError) -> None:
        with self._lock:
            found = self._running.pop(name, None)
        if found is not None:
            self._events.on_exited(name, found[1], ProcessExit(code=None, cause=f"was lost with its host: {error}"))

    def _connect(self, host: Host) -> None:
        assert self._reach is not None  # noqa: S101 - it was entered
        made = RemoteHost(host.name, partial(self._reach.connect, host), self)
        self._hosts[host.name] = made
        made.set_up(lambda info, _: self._setup(host.name, info))

    def _setup(self, name: str, info: HostInfo) -> HostSetup:
        self._calls.pop(name, None)
        address = info.address or "127.0.0.1"
        return HostSetup(
            run_id=self._run_id,
            boot={},
            token="",
            authority=self._authority.certificate,
            identity=self._authority.issue(address),
            address=address,
            variables=matching_variables(os.environ, self._wanted.copy_env_vars),
            interpreter=sys.executable,
            tree=None,
            counted=True,
        )
