"""Hosts that an engine allocates for a Launcher, and that it keeps from one run to the next."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Callable
from typing import Any

from kourou import errors
from kourou.ownership import make_own_folder
from kourou.runtime.files.run_folder import new_run_id, runs_dir
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.launchers.engines.reach import EngineReach
from kourou.runtime.model.engines import EngineOptions, Shape
from kourou.runtime.model.hosts import Host
from kourou.runtime.plan.allocation import plan_of_hosts
from kourou.spmd.hosts.remote import ENTRY, RemoteHost


class Allocation:
    """Its owner calls :meth:`release`; who connects after that gets hosts anew. Thread-safe.

    Args:
        engine: allocates the hosts.
        shape: how many, and what each has.
        timeout_s: for an agent's answer.
    """

    def __init__(self, engine: EngineOptions, shape: Shape, timeout_s: float) -> None:
        self.engine, self.shape = engine, shape
        self.names = [f"host{number}" for number in range(shape.hosts)]
        """Of the places."""
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._folder = runs_dir() / new_run_id("spmd")  # which all hosts see
        self._reach: EngineReach | None = None

    def connect(self, name: str, given_up: threading.Event) -> RemoteHost:
        """A host, whose agent will call. The first one waits for the allocation.

        Raises:
            LaunchError: the engine refuses, with its own words; or ``given_up`` was set meanwhile.
        """
        with self._lock:
            reach = self._reach = self._reach or self._allocated(given_up)
            return RemoteHost(name, self._timeout_s, lambda *told: _Agent(reach, name, *told))

    def release(self) -> None:
        """Give the hosts back. Idempotent."""
        with self._lock:
            reach, self._reach = self._reach, None
            if reach is not None:
                reach.release()
                shutil.rmtree(self._folder, ignore_errors=True)

    def _allocated(self, given_up: threading.Event) -> EngineReach:
        def go_on(why: str) -> None:
            if given_up.is_set():
                raise errors.LaunchError(f"waiting for hosts was given up {why}".strip())

        self._folder.parent.mkdir(parents=True, exist_ok=True)
        make_own_folder(self._folder)
        plan = plan_of_hosts("spmd", self.engine, self.shape)
        order = DialOrder(token=secrets.token_hex(16), silence_s=self.engine.lost_after_s, entry=ENTRY)
        reach = EngineReach(plan, order, folder=self._folder, authority=Authority(), on_wait=go_on)
        try:
            reach.allocate()
        except BaseException:
            reach.release()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return reach


class _Agent:
    """Implements :class:`kourou.spmd.hosts.remote.Agent` and TransportEvents."""

    def __init__(
        self,
        reach: EngineReach,
        name: str,
        on_message: Callable[..., None],
        on_lost: Callable[[errors.AgentFailedError], None],
    ) -> None:
        self.lost = False
        self.on_message = on_message
        self._tell_loss = on_lost
        self._transport = reach.connect(Host(name), self)

    def await_ready(self, check: Callable[[], None]) -> None:
        """It is asked something next, and has so long to call and to answer."""

    def send(self, *message: Any) -> None:
        self._transport.send(*message)

    def send_bulk(self, *message: Any) -> None:
        self._transport.send_bulk(*message)

    def close(self) -> None:
        self.lost = True
        self._transport.close()

    def on_lost(self, error: errors.KourouError) -> None:
        self.lost = True
        self._tell_loss(error if isinstance(error, errors.AgentFailedError) else errors.AgentFailedError(str(error)))

    def on_full(self, full: bool) -> None:  # noqa: FBT001 - a callback
        """Who sends much waits for room."""
