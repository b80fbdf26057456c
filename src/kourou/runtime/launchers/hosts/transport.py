"""What leads to a host's agent: the pipes of an ssh, or a connection that the agent dialled."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from kourou import errors
from kourou.runtime.host_agent.session import Sender
from kourou.runtime.model.hosts import Host


class TransportEvents(Protocol):
    """What a transport tells, from threads of its own; each call must return quickly."""

    def on_message(self, kind: str, *arguments: Any) -> None:
        """The agent said something. Told once for each message, in order."""

    def on_lost(self, error: errors.KourouError) -> None:
        """The agent could not be reached, or is gone, with all that it ran. Told once, unless it was closed."""

    def on_full(self, full: bool) -> None:  # noqa: FBT001 - a callback
        """Much waits to be sent (True), or there is room again."""


class Transport(Sender, Protocol):
    """Made, it is on its way; what is sent before the agent is there waits for it. Its owner closes it.

    No call waits for the network but :meth:`close`.
    """

    name: str | None
    """What the host calls itself, where it was not named by the user and has answered."""
    local: bool
    """The agent has this process's environment already. Known once it has answered."""
    tree: str | None
    """The folder here that the agent's own is a copy of; None: they are the same. Known once it has answered."""

    def close(self) -> None:
        """End the agent and all that it runs. Idempotent."""


class Closable(Protocol):
    """A host as a launcher has it."""

    name: str

    def close(self) -> None:
        """End its agent."""


class Reach(Protocol):
    """How the hosts of a plan are reached."""

    def connect(self, host: Host, events: TransportEvents) -> Transport:
        """Reach a host for the first time, or again after it was lost; returns at once."""
        ...

    def close(self, hosts: Collection[Closable]) -> None:
        """Close these, which are all, side by side."""
