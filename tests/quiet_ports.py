"""Ports for servers that are to come back on theirs."""

from __future__ import annotations

import contextlib
import secrets
import socket
from pathlib import Path

__all__ = ["quiet_port"]

_GIVEN_AWAY = Path("/proc/sys/net/ipv4/ip_local_port_range")


def quiet_port() -> int:
    """A free port that the system gives to nobody who asks for any, while there is no server on it."""
    first = int(_GIVEN_AWAY.read_text().split()[0]) if _GIVEN_AWAY.exists() else 49152
    while True:
        port = secrets.randbelow(first - 1024) + 1024
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
