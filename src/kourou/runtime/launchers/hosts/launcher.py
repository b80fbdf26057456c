"""Nodes as processes of several hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kourou import errors
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.loop import LoopThread
from kourou.runtime.launchers.base import Launcher, LauncherEvents
from kourou.runtime.launchers.hosts.host import RemoteHost
from kourou.runtime.launchers.hosts.pool import HostPool
from kourou.runtime.launchers.hosts.transport import Reach
from kourou.runtime.metrics.shipping import PICTURE, ROWS, receive
from kourou.runtime.model.process import Blobs, unneeded_blobs
from kourou.runtime.model.records import ProcessExit
from kourou.runtime.plan.plan import LaunchPlan, NodePlan
from kourou.runtime.plan.relocation import Relocation


class HostLauncher(HostPool, Launcher):
    """Runs each process of a plan on the host that the plan says.

    Where one starts is up to :class:`~kourou.runtime.plan.relocation.Relocation`.
    """

    _events: LauncherEvents

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
        self._loop = LoopThread("kourou-tunnel")
        super().__init__(
            plan, events, run_id=run_id, reach=reach, authority=authority, coordinator=(self._loop, coordinator)
        )
        assert plan.hosts is not None  # noqa: S101 - a plan of this launch type has hosts
        self._metrics_dir = metrics_dir
        self._nodes: dict[str, NodePlan] = {node.name: node for node in plan.nodes if node.process is not None}
        self._sites = Relocation(plan.hosts, self._is_lost, self._usable_host)
        self._again: set[str] = set()  # hosts that were lost, and called again
        used = {node.site.host for node in self._nodes.values() if node.site}
        try:
            for name in self._wanted:
                if name in used:
                    self._connect(name)
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
            self._set_up(host)

    def add(self, nodes: Sequence[NodePlan], blobs: Blobs) -> None:
        self._blobs.update(blobs)
        self._nodes |= {node.name: node for node in nodes if node.process is not None}

    def forget(self, names: set[str]) -> None:
        """These nodes are gone for good: what they alone would have unpickled is, too."""
        gone = [self._nodes.pop(name).process for name in names & self._nodes.keys()]
        for blob in unneeded_blobs(gone, [node.process for node in self._nodes.values()]):
            self._blobs.pop(blob, None)

    def start(self, name: str, attempt: int) -> None:
        try:
            with self._lock:
                where, spec = self._sites.start(self._nodes[name])
                host = self._usable_host(where)
                self._note(host, name, attempt)
        except errors.LaunchError as error:  # its host was lost, and there is no thread left to call it again
            with self._lock:
                self._sites.end(name)
            self._events.on_line(name, f"kourou: {error}", "stderr")
            self._events.on_exited(name, attempt, ProcessExit.not_started(str(error)))
            return
        self._events.on_placed(name, attempt, host.shown)
        host.start(spec, attempt)

    def close(self) -> None:
        super().close()
        self._loop.close()

    def on_host_message(self, host: RemoteHost, kind: str, *arguments: Any) -> None:
        if kind in {ROWS, PICTURE}:
            receive(self._metrics_dir, kind, *arguments)
        else:
            super().on_host_message(host, kind, *arguments)

    def _forget(self, name: str) -> None:
        super()._forget(name)
        self._sites.end(name)

    def _is_lost(self, name: str) -> bool:
        """Whether a host is lost, or was and has not answered yet."""
        host = self._hosts.get(name)
        return host is not None and (host.lost or (host.info is None and name in self._again))

    def _usable_host(self, name: str) -> RemoteHost:
        """A host that is used for the first time, or again."""
        known = self._hosts.get(name)
        if known is not None and not known.lost:
            return known
        if known is not None:
            self._again.add(name)
        host = self._connect(name)
        self._set_up(host)
        return host
