"""Asking hosts what CPUs and GPUs they have, before a plan hands them out."""

from __future__ import annotations

import queue
import threading

from kourou import errors
from kourou.runtime.host_agent import ENTRY, HostFacts
from kourou.runtime.hosts import Host, Hosts
from kourou.runtime.inventory import Inventory
from kourou.runtime.launchers.ssh import SshAgent
from kourou.runtime.launchers.ssh_sync import options_of

__all__ = ["with_inventories"]


def with_inventories(hosts: Hosts) -> Hosts:
    """The same hosts; those that do not say what they have are asked, all at once.

    Raises:
        AgentFailedError: one cannot be reached, with ssh's own words.
        LaunchError: files could not be copied to one.
    """
    unknown = [host for host in hosts.all if host.inventory is None]
    found: dict[str, Inventory | errors.KourouError] = {}

    def ask(host: Host) -> None:
        try:
            found[host.name] = _ask(host, hosts)
        except errors.KourouError as error:
            found[host.name] = error

    threads = [threading.Thread(target=ask, args=(host,), name=f"kourou-ask-{host.name}") for host in unknown]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in found.values():
        if isinstance(answer, errors.KourouError):
            raise answer
    return hosts.with_inventories({name: told for name, told in found.items() if isinstance(told, Inventory)})


def _ask(host: Host, hosts: Hosts) -> Inventory:
    answers: queue.SimpleQueue[HostFacts | errors.AgentFailedError] = queue.SimpleQueue()
    agent = SshAgent(
        host.name,
        options_of(host, hosts),
        entry=ENTRY,
        on_message=lambda _kind, facts: answers.put(facts),
        on_lost=answers.put,
    )
    try:
        agent.await_ready()
        agent.send("hello")
        answer = answers.get()
    finally:
        agent.close()
    if isinstance(answer, errors.AgentFailedError):
        raise answer
    return answer.inventory
