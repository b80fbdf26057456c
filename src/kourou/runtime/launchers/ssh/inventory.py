"""Asking hosts what CPUs and GPUs they have, before a plan hands them out."""

from __future__ import annotations

from kourou import errors
from kourou.runtime.launchers.hosts.host import RemoteHost
from kourou.runtime.launchers.ssh.transport import SshReach
from kourou.runtime.model.hosts import Host, Hosts


def with_inventories(hosts: Hosts) -> Hosts:
    """The same hosts; those that do not say what they have are asked, all at once.

    Raises:
        AgentFailedError: one cannot be reached, with ssh's own words.
        LaunchError: files could not be copied to one.
    """
    reach = SshReach(hosts)
    asked: list[RemoteHost] = []
    try:
        asked.extend(_ask(host, reach) for host in hosts.all if host.inventory is None)  # as far as it gets
        return hosts.with_inventories({host.name: host.await_info().inventory for host in asked})
    finally:
        reach.close(asked)


def _ask(host: Host, reach: SshReach) -> RemoteHost:
    return RemoteHost(host.name, lambda events: reach.connect(host, events), _Nobody())


class _Nobody:
    """Implements :class:`kourou.runtime.launchers.hosts.host.HostEvents`: nothing is started, who waits is told."""

    def on_host_message(self, host: RemoteHost, kind: str, *arguments: object) -> None:
        """Never called."""

    def on_host_lost(self, host: RemoteHost, error: errors.KourouError) -> None:
        """``await_info`` raises it."""
