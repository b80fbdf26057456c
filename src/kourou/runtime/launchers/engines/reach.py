"""How a launcher reaches hosts that an engine allocates: their agents call."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from pathlib import Path

from kourou import errors
from kourou.limits import with_remedy
from kourou.runtime.files.run_folder import ORDER_FILE
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.launchers.dialled.server import AgentServer
from kourou.runtime.launchers.dialled.transport import DialledTransport
from kourou.runtime.launchers.engines.allocation import Allocation
from kourou.runtime.launchers.hosts.transport import Closable, Reach, TransportEvents
from kourou.runtime.model.hosts import Host
from kourou.runtime.plan.plan import LaunchPlan


class EngineReach(Reach):
    """Hosts of an allocation, whose agents call. Its owner calls :meth:`release`.

    Args:
        plan: has an engine.
        order: what agents are told, but for where they call, and whom they trust.
        folder: the run's.
        authority: signs what the launcher proves itself with.
        coordinator: where other shells' connections lead; None: nowhere.
        on_wait: told now and then what is waited for, in the engine's words; "" once all is there. What it raises ends
            the waiting.
        allocation: of this plan, begun already; None: it is made here.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        order: DialOrder,
        *,
        folder: Path,
        authority: Authority,
        coordinator: tuple[str, int] | None = None,
        on_wait: Callable[[str], object] = lambda _: None,
        allocation: Allocation | None = None,
    ) -> None:
        assert plan.engine is not None  # noqa: S101 - whoever makes this has looked
        assert plan.shape is not None  # noqa: S101 - likewise
        self._options = plan.engine
        self._places = plan.places
        self._used = set(plan.places.values()) - set(plan.idle_places)
        self._reached: set[str] = set()
        self._order = folder / ORDER_FILE
        self._allocation = allocation or Allocation(
            plan.engine, plan.shape, name=plan.program, folder=folder, order=self._order
        )
        engine = self._allocation.engine
        self._server = AgentServer(
            order,
            authority,
            address="127.0.0.1" if engine.loopback else None,
            port=engine.port,
            words=engine.words,
            coordinator=coordinator,
        )
        self._on_wait = on_wait
        try:
            self._server.order.write(self._order)
        except BaseException:
            self._server.close()
            raise

    def allocate(self) -> None:
        """Wait until the hosts are there, and start their agents. Why it takes long is said, again when that changes.

        Raises:
            LaunchError: the engine refuses; with its own words.
        """
        self._allocation.begin(self._on_wait)
        if self._allocation.engine.patient:
            self._allocation.wait(self._all_called, self._on_wait)

    def _all_called(self, timeout_s: float) -> bool:
        """Whether the agents of all hosts that are used have called.

        Raises:
            LaunchError: they never will.
        """
        if self._server.wait_for_callers(self._used, timeout_s):
            return True
        self._allocation.engine.granted(0)
        return False

    def connect(self, host: Host, events: TransportEvents) -> DialledTransport:
        place = self._places[host.name]
        within_s = math.inf if self._allocation.engine.patient else self._options.connect_timeout_s
        transport = self._server.expect(place, events, within_s)
        if host.name in self._reached:
            try:
                self._allocation.start_again(place)
            except (errors.LaunchError, OSError) as error:
                told = with_remedy(error) if isinstance(error, OSError) else str(error)
                self._server.thread.post(lambda: transport.lose(told))
        self._reached.add(host.name)
        return transport

    def close(self, hosts: Collection[Closable]) -> None:
        self._server.hang_up()
        for host in hosts:
            host.close()

    def release(self) -> None:
        """Give the hosts back. Idempotent."""
        self._server.hang_up()  # those who are not needed any more, or call only now
        self._allocation.release()
        self._server.close()
        self._order.unlink(missing_ok=True)
