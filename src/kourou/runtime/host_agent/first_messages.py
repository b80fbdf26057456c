"""What a launcher and the agent of a program's host tell each other first.

One that calls has said before whose it is (``dialling``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kourou.runtime.model.inventory import Inventory
from kourou.runtime.node_process.certificate import Certificate


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostInfo:
    """What a host says of itself."""

    inventory: Inventory
    address: str | None
    """Its own, of the connection to the launcher; None: that crosses no network."""
    launcher_address: str | None
    """Where it sees the launcher; None likewise."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostSetup:
    """What a host needs to know of a run before its first node."""

    run_id: str
    boot: Mapping[str, Any]
    """For every node process; what is a file or a socket is added on the host."""
    token: str = dataclasses.field(repr=False)
    authority: bytes
    """The certificate that clients trust."""
    identity: Certificate
    """What this host's servers prove themselves with."""
    address: str
    """Where this host's nodes listen."""
    variables: Mapping[str, str]
    """Of the launcher's environment."""
    interpreter: str
    """The launcher's; nodes that ask for no other get the one that the agent runs on."""
    tree: str | None
    """The launcher's folder that the agent's own is a copy of; None: they are the same."""
    counted: bool = False
    """CPUs and GPUs of a process are places among those that an engine gave this host, and not their names."""
