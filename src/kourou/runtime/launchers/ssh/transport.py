"""Hosts over ssh, for programs: each with an agent that the system's ssh starts, once its files are there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any

from kourou import errors, threads
from kourou.runtime.host_agent.dial_order import ENTRY
from kourou.runtime.launchers.hosts.host import RemoteHost
from kourou.runtime.launchers.hosts.transport import Closable, Reach, Transport, TransportEvents
from kourou.runtime.launchers.ssh.connection import SshAgent, SshOptions
from kourou.runtime.launchers.ssh.sync import options_of
from kourou.runtime.model.hosts import Host, Hosts
from kourou.shown import described


class SshReach(Reach):
    """Hosts as ssh reaches them."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    def connect(self, host: Host, events: TransportEvents) -> SshTransport:
        return SshTransport(host.name, lambda given_up: options_of(host, self._hosts, given_up), events)

    def close(self, hosts: Collection[Closable]) -> None:
        close_all(hosts)


class SshTransport(Transport):
    """A thread copies files and connects, and ends then.

    Args:
        prepare: how it is reached; called in that thread, since it may copy files there first, until the event is set.
    """

    def __init__(self, name: str, prepare: Callable[[threading.Event], SshOptions], events: TransportEvents) -> None:
        self.name: str | None = None
        self.local = False
        self.tree: str | None = None
        self._name = name
        self._prepare = prepare
        self._events = events
        self._lock = threading.Lock()
        self._waiting: list[tuple[tuple[Any, ...], dict[str, bool]]] = []
        self._agent: SshAgent | None = None
        self._closed = False
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._connect, name=f"kourou-host-{name}", daemon=True)
        threads.start(self._thread)

    def put(self, message: tuple[Any, ...], **how: bool) -> None:
        with self._lock:
            if self._agent is None:
                self._waiting.append((message, how))
            else:
                self._agent.put(message, **how)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            agent = self._agent
        self._given_up.set()
        if agent is not None:
            agent.close()
        self._thread.join()

    def _connect(self) -> None:
        try:
            options = self._prepare(self._given_up)
            self.local, self.tree = options.local, options.tree
            with self._lock:
                if self._closed:
                    return
                self._agent = SshAgent(
                    self._name,
                    options,
                    entry=ENTRY,
                    on_message=self._events.on_message,
                    on_lost=self._events.on_lost,
                    on_full=self._events.on_full,
                )
                for message, how in self._waiting:
                    self._agent.put(message, **how)
                self._waiting.clear()
            self._agent.await_ready()
        except errors.KourouError as error:
            self._events.on_lost(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits for this host must hear of it
            self._events.on_lost(errors.LaunchError(f"{self._name}: {described(error)}"))


def close_all(hosts: Collection[Closable]) -> None:
    """Close hosts side by side: one whose link is cut takes seconds."""
    closing = []
    for host in hosts:
        thread = threading.Thread(target=host.close, name=f"kourou-close-{host.name}")
        try:
            threads.start(thread)
        except RuntimeError:  # there are no more threads
            host.close()
        else:
            closing.append(thread)
    for thread in closing:
        thread.join()


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
