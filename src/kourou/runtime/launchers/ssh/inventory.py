"""Asking hosts what CPUs and GPUs they have, before a plan hands them out."""

from __future__ import annotations

from kourou import errors
from kourou.runtime.launchers.ssh.host import SshHost, close_all
from kourou.runtime.launchers.ssh.sync import options_of
from kourou.runtime.model.hosts import Host, Hosts

__all__ = ["with_inventories"]


def with_inventories(hosts: Hosts) -> Hosts:
    """The same hosts; those that do not say what they have are asked, all at once.

    Raises:
        AgentFailedError: one cannot be reached, with ssh's own words.
        LaunchError: files could not be copied to one.
    """
    asked = [_reach(host, hosts) for host in hosts.all if host.inventory is None]
    try:
        return hosts.with_inventories({host.name: host.await_info().inventory for host in asked})
    finally:
        close_all(asked)


def _reach(host: Host, hosts: Hosts) -> SshHost:
    return SshHost(host.name, lambda given_up: options_of(host, hosts, given_up), _Nobody(), coordinator=None, blobs={})


class _Nobody:
    """Implements :class:`kourou.runtime.launchers.ssh.host.HostEvents`: nothing is started, and who waits is told."""

    def on_host_message(self, host: SshHost, kind: str, *arguments: object) -> None:
        """Never called."""

    def on_host_lost(self, host: SshHost, error: errors.KourouError) -> None:
        """``await_info`` raises it."""
