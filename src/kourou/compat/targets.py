"""Addresses as programs pass them on: ``host:port``, or the name that a client tells of the node that it calls."""

from __future__ import annotations

from typing import Any

from kourou.runtime.context.context import binding_of
from kourou.runtime.waiting.node_target import NodeTarget


def target_of(address: Any) -> Any:
    """What a client of kourou's takes for an address that another client told (``client.server_address``)."""
    if isinstance(address, str) and "/" in address and ":" not in address.partition("/")[0]:
        return NodeTarget(name=address, binding=binding_of(None, address))
    return address
