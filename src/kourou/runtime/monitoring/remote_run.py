"""A live run as another process of the same user reaches it: through its coordinator, with the token of its folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from kourou import courier, errors, threads
from kourou.closing import ClosedAtExit
from kourou.courier import Client
from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.context.context import Binding, ControlPlane
from kourou.runtime.control import messages
from kourou.runtime.control.directory import Directory
from kourou.runtime.control.resizing import ask_for
from kourou.runtime.control.stub import CoordinatorStub
from kourou.runtime.launchers.dialled.coordinator_tunnel import CoordinatorTunnel
from kourou.runtime.model.records import NodeRecord, check_restart
from kourou.runtime.model.resize import Resize
from kourou.runtime.model.status import RunStatus
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.plan.launch_type import LaunchType
from kourou.runtime.plan.plan import Placement
from kourou.runtime.waiting.node_target import NodeTarget

_POLL_S = 0.05
_FRESH_S = 1.0
_AT_ONCE = 16
T = TypeVar("T")


class RemoteRun(ClosedAtExit, ControlPlane):
    """A run in another process. Use it in a ``with``, or call :meth:`close`.

    It is also the :class:`~kourou.runtime.context.context.ControlPlane` of the clients that it makes.

    Raises:
        RunUnavailable: the run has ended, has not begun, or its launcher is suspended.
        ServerUnavailable: its launcher cannot be reached on another host.
    """

    def __init__(self, found: FoundRun) -> None:
        self.found = found = found.refreshed()
        found.check_answers()
        self._token = found.token
        if not found.info.coordinator:
            raise errors.RunUnavailable(f"run {found.run_id} has not begun")
        certificate = found.certificate
        self._tunnel = None if found.info.here else CoordinatorTunnel(found.path)
        address = found.info.coordinator if self._tunnel is None else self._tunnel.address
        self._stub = CoordinatorStub(address, token=self._token, caller=f"run {found.run_id}", wait_for_ready=False)
        self._binding = Binding(run_id=found.run_id, control=self, token=self._token, tls=certificate)
        self._clients: dict[str, Client] = {}
        self._seen: tuple[float, dict[str, NodeRecord]] = (-math.inf, {})

    def close(self) -> None:
        for client in self._clients.values():
            courier.close(client)
        self._stub.close()
        if self._tunnel is not None:
            self._tunnel.close()

    def _call(self, method: str, request: Any, reply: Any = pb.Ack) -> Any:
        try:
            return self._stub.call(method, request, reply)
        except errors.ServerUnavailable:
            self.found.refreshed().check_answers()
            raise

    def status(self) -> RunStatus:
        """The run and its nodes as they are now.

        Raises:
            RunUnavailable: the run has just ended: its folder tells the rest.
        """
        status = messages.status_from_proto(self._call("Status", pb.StatusRequest(), pb.StatusReply))
        self._seen = time.monotonic(), {node.name: node for node in status.nodes}
        return status

    def stacks(self) -> str:
        """The stacks of all threads of the launcher's process."""
        return str(self._call("Stacks", pb.StacksRequest(), pb.StacksReply).text)

    def request_stop(self, reason: str) -> None:
        self._call("Stop", pb.StopRequest(reason=reason, origin="another shell"))

    def request_restarts(self, names: Sequence[str], records: Mapping[str, NodeRecord], origin: str) -> None:
        """Ask for nodes to be ended and started again; returns at once.

        Raises:
            NotFound, NodeExited, PlanError: one of them cannot be; none is asked for.
        """
        plan = self.found.plan()["nodes"]
        inside = {node["name"]: node["parent"] for node in plan if node["placement"] == Placement.IN_PARENT}
        for name in names:
            check_restart(name, records, inside, threads=LaunchType(self.found.info.launch_type).threads)
        for name in names:
            self._call("Restart", pb.RestartRequest(name=name, origin=origin))

    def resize(self, resize: Resize, origin: str = "another shell") -> tuple[str, ...]:
        """Ask for nodes to come or go; the names of those that do.

        Raises:
            KourouError: it was refused.
        """
        return ask_for(resize, origin, lambda request: self._call("Resize", request, pb.ResizeReply))

    def client(self, node: str) -> Client:
        """A client of a node; it is closed with this object."""
        client = self._clients.get(node)
        if client is None:
            client = self._clients[node] = Client(NodeTarget(name=node, binding=self._binding))
        return client

    def ask_all(
        self, names: Sequence[str], question: Callable[[Client], T], within_s: float
    ) -> tuple[dict[str, T], tuple[str, ...]]:
        """Ask many nodes, some at a time: a future for each would take a thread for each.

        Args:
            names: whom.
            question: asks one, and waits for its answer.
            within_s: how long each has.

        Returns:
            What was answered; and the names of those that did not answer in time. Who has just ended is in neither.
        """
        answers: dict[str, T] = {}
        silent: list[str] = []

        def ask(name: str) -> None:
            try:
                answers[name] = question(courier.with_options(self.client(name), timeout_s=within_s))
            except errors.DeadlineExceeded:
                silent.append(name)
            except Exception:  # noqa: BLE001, S110 - it has ended, or has no answer to that
                pass

        if names:
            with threads.starting("kourou-ask"), ThreadPoolExecutor(min(_AT_ONCE, len(names)), "kourou-ask") as pool:
                list(pool.map(ask, names))
        return answers, tuple(silent)

    def wait(self, name: str, holds: Callable[[NodeRecord], bool], timeout_s: float | None = None) -> NodeRecord | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        seen_at, nodes = self._seen
        if time.monotonic() - seen_at > _FRESH_S:  # else whoever connects to many would ask of all for each
            nodes = self._latest()
        while True:
            record = nodes.get(name)
            if record is not None and holds(record):
                return record
            if deadline is not None and time.monotonic() >= deadline:
                return None
            time.sleep(_POLL_S)  # the coordinator's events are for its nodes
            nodes = self._latest()

    def members(self, label: str) -> list[NodeRecord]:
        return Directory(self._latest().values()).members(label)

    def update(self, name: str, **changes: Any) -> None:
        """Refused: only a node changes its own record."""
        del changes
        raise errors.NotInProgram(f"another shell cannot change the record of {name}")

    def _latest(self) -> dict[str, NodeRecord]:
        try:
            self.status()
        except errors.ServerUnavailable:
            return {node.name: node for node in self.found.status().nodes}
        return self._seen[1]
