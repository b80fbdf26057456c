"""Listening on TCP ports, and who has one that is taken."""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path

from kourou.errors import LaunchError

_BACKLOG = 1024
_TAKEN_TIMEOUT_S = 5.0  # a server that was killed has its port until the system has taken its memory back
_POLL_S = 0.05
_GIVEN_AWAY = Path("/proc/sys/net/ipv4/ip_local_port_range")


def listen(host: str, port: int) -> socket.socket:
    """Listen on ``host:port``; 0 lets the system choose a port. One that is taken is waited for, for a moment.

    Raises:
        LaunchError: the port is taken, or the address is not this host's.
    """
    deadline = time.monotonic() + _TAKEN_TIMEOUT_S
    while True:
        try:
            return _listen(host, port)
        except (OSError, OverflowError) as error:
            is_taken = port and isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if not is_taken:
                raise LaunchError(f"cannot listen on {host}:{port}: {error}") from error
            if time.monotonic() >= deadline:
                raise LaunchError(f"cannot listen on {host}:{port}: {_holder(port)}{_advice(port)}") from error
            time.sleep(_POLL_S)


def _listen(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    everywhere = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=everywhere)


def _holder(port: int) -> str:
    """Who has a port, in words."""
    import psutil  # noqa: PLC0415 - only for this message

    try:
        found = [one for one in psutil.net_connections("tcp") if one.laddr and one.laddr.port == port]
    except (psutil.Error, OSError):  # macOS tells root only
        found = []
    listening = [one for one in found if one.status == psutil.CONN_LISTEN]
    what = "it listens there" if listening else "a connection of its has the port"
    pids = sorted({one.pid for one in listening or found if one.pid})
    if pids:
        return f"the port is taken by process {', '.join(map(_named, pids))}: {what}"
    if found and not listening:
        return "the port is taken by a connection that has ended, for a minute"
    return "the port is taken"


def _named(pid: int) -> str:
    import psutil  # noqa: PLC0415 - only for this message

    try:
        return f"{pid} ({psutil.Process(pid).name()})"
    except psutil.Error:
        return str(pid)


def _advice(port: int) -> str:
    try:
        first, last = map(int, _GIVEN_AWAY.read_text("ascii").split())
    except (OSError, ValueError):  # not Linux
        return ""
    if not first <= port <= last:
        return ""
    return (
        f". The system gives the ports from {first} to {last} to whoever asks for any; "
        "a server that is to come back on its port has another one"
    )
