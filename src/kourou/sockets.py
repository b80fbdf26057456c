"""What sockets do that nobody expects; apart, so that agents of hosts start without the courier."""

from __future__ import annotations

import socket


def is_itself(connection: socket.socket) -> bool:
    """Whether a client is connected to itself: nobody listens there, and the system gave its own end that very port."""
    try:
        return bool(connection.getsockname() == connection.getpeername())
    except OSError:  # it has ended already
        return False
