"""How a launcher reaches hosts that an engine allocates: their agents call."""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import cast

from kourou import errors
from kourou.runtime.files import nonblocking_stream
from kourou.runtime.files.run_folder import ORDER_FILE
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.host_service import ENTRY
from kourou.runtime.interpreter.startup import python_command
from kourou.runtime.launchers.dialled.server import AgentServer
from kourou.runtime.launchers.dialled.transport import DialledTransport
from kourou.runtime.launchers.engines.base import Engine, EngineMaker
from kourou.runtime.launchers.hosts.transport import Closable, TransportEvents
from kourou.runtime.model.hosts import Host
from kourou.runtime.plan.plan import LaunchPlan

__all__ = ["AGENTS", "EngineReach"]

AGENTS = "agents"
"""Folder in the run's: what the engine and its agents said."""
_LOOK_S = 0.5


class EngineReach:
    """Implements :class:`kourou.runtime.launchers.hosts.transport.Reach`. Its owner calls :meth:`release`.

    Args:
        plan: has an engine.
        folder: the run's.
        token: what agents show.
        authority: signs what the launcher proves itself with.
        coordinator: where other shells' connections lead; None: nowhere.
        entry: the service of the agents.
        on_wait: told what is waited for whenever that changes, in the engine's words; "" once all is there.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        *,
        folder: Path,
        token: str,
        authority: Authority,
        coordinator: tuple[str, int] | None = None,
        entry: str = ENTRY,
        on_wait: Callable[[str], object] = lambda _: None,
    ) -> None:
        assert plan.engine is not None  # noqa: S101 - whoever makes this has looked
        assert plan.hosts is not None  # noqa: S101 - a plan with an engine has hosts
        assert plan.shape is not None  # noqa: S101 - likewise
        self._shape, self._options = plan.shape, plan.engine
        self._places = {name: place for place, name in enumerate(plan.hosts.names)}
        used = {node.site.host for node in plan.nodes if node.site is not None}
        self._used = [place for name, place in self._places.items() if name in used]
        self._reached: set[str] = set()
        (folder / AGENTS).mkdir(mode=0o700, exist_ok=True)
        make = cast("EngineMaker", pkgutil.resolve_name(plan.engine.implementation))
        self._engine: Engine = make(plan.engine, name=plan.program, folder=folder / AGENTS)
        self._server = AgentServer(
            token=token,
            authority=authority,
            silence_s=plan.engine.lost_after_s,
            address="127.0.0.1" if self._engine.loopback else None,
            port=self._engine.port,
            words=self._engine.words,
            coordinator=coordinator,
            entry=entry,
        )
        self._on_wait = on_wait
        self._order = folder / ORDER_FILE
        self._server.order.write(self._order)

    def allocate(self) -> None:
        """Wait until the hosts are there, and start their agents. Why it takes long is said, again when that changes.

        Raises:
            LaunchError: the engine refuses; with its own words.
        """
        self._engine.allocate(self._shape)
        self._wait(self._engine.granted)
        self._engine.start_agents(self._command, range(self._shape.hosts))
        if self._engine.patient:
            self._wait(self._all_called)

    def _wait(self, is_there: Callable[[float], bool]) -> None:
        told = ""
        while not is_there(_LOOK_S):
            why = self._engine.why_pending()
            if why and why != told:
                nonblocking_stream.warn("%s: waiting for %s", self._options.launch_type, why)
                self._on_wait(why)
                told = why
        self._on_wait("")

    def _all_called(self, timeout_s: float) -> bool:
        """Whether the agents of all hosts that are used have called.

        Raises:
            LaunchError: they never will.
        """
        if self._server.wait_for_callers(self._used, timeout_s):
            return True
        self._engine.granted(0)
        return False

    def connect(self, host: Host, events: TransportEvents) -> DialledTransport:
        """See :class:`Reach`."""
        place = self._places[host.name]
        within_s = math.inf if self._engine.patient else self._options.connect_timeout_s
        transport = self._server.expect(place, events, within_s)
        if host.name in self._reached:
            try:
                self._engine.start_agents(self._command, [place])
            except errors.LaunchError as error:
                told = str(error)
                self._server.thread.post(lambda: transport.lose(told))
        self._reached.add(host.name)
        return transport

    def close(self, hosts: Collection[Closable]) -> None:
        """See :class:`Reach`."""
        self._server.hang_up()
        for host in hosts:
            host.close()

    def release(self) -> None:
        """Give the hosts back. Idempotent."""
        self._engine.release()
        self._server.close()
        self._order.unlink(missing_ok=True)

    def _command(self, place: str) -> list[str]:
        entry = "from kourou.runtime.host_agent.dialling import main"
        return python_command(f"{entry}; main({str(self._order)!r}, {place!r})")
