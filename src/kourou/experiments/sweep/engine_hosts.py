"""Runs on hosts that an engine allocates: each host's agent does there what a Supervisor does on this one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kourou.experiments.failures import SweepError
from kourou.experiments.sweep.slots import Slot
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.launchers.engines.reach import EngineReach
from kourou.runtime.launchers.hosts.pool import HostPool
from kourou.runtime.model.engines import EngineOptions, Shape
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.plan.allocation import plan_of_hosts
from kourou.runtime.process.preload import Preload
from kourou.runtime.process.supervisor import ProcessEvents

if TYPE_CHECKING:
    from typing_extensions import Self

_FIRST_CALL_S = 1.0  # after a host was lost
_LONGEST_PAUSE_S = 300.0  # between two calls
_CALLS = 3  # in vain, of all hosts: then the allocation is taken for gone


class EngineHosts(HostPool):
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

    _reach: EngineReach

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
        authority, plan = Authority(), plan_of_hosts(folder.name, engine, shape)
        order = DialOrder(token=secrets.token_hex(16), silence_s=engine.lost_after_s, run_id=run_id)
        reach = EngineReach(plan, order, folder=folder, authority=authority)
        super().__init__(plan, events, run_id=run_id, reach=reach, authority=authority)
        self._calls: dict[str, tuple[int, float]] = {}  # of lost hosts: how often, and when again

    def __enter__(self) -> Self:
        try:
            self._reach.allocate()
            for name in self._wanted:
                self._set_up(self._connect(name))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
        self._reach.release()

    def prepare(self) -> None:
        """See :class:`Supervisor`; each host does it when it is there."""

    def start(self, spec: ProcessSpec, attempt: int, boot: Mapping[str, Any], host: str) -> None:
        """Start a run's process on a host."""
        with self._lock:
            there = self._hosts[host]
            self._note(there, spec.name, attempt)
        if there.loss is not None:  # since the scheduler asked
            self.on_host_lost(there, there.loss)
        there.start(spec, attempt, boot)

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
            if host.info is None:
                return f"{host.shown}: its agent has not called yet"
            self._calls.pop(slot.host, None)
            return ""
        count, due = self._calls.setdefault(slot.host, (0, time.monotonic() + _FIRST_CALL_S))
        if time.monotonic() >= due:
            if count >= _CALLS and all(each.lost for each in self._hosts.values()):
                raise SweepError(f"all hosts are lost; the last words: {host.loss}; the same call goes on where it was")
            self._calls[slot.host] = count + 1, time.monotonic() + min(_FIRST_CALL_S * 10**count, _LONGEST_PAUSE_S)
            self._set_up(self._connect(slot.host))
        return f"{host.shown} is lost, and called again"
