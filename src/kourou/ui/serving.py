"""The server of the dashboard, until Ctrl-C."""

from __future__ import annotations

import socket

import uvicorn
from starlette.applications import Starlette

from kourou import errors


def bound(host: str, port: int | None) -> socket.socket:
    """A socket that is bound; without a port, to the usual one, or to any where that is taken.

    Raises:
        LaunchError: the port that was asked for is taken, or the host is none of this machine's.
    """
    wanted = (_USUAL_PORT, 0) if port is None else (port,)
    for number in wanted:
        try:
            return socket.create_server((host, number), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            if number == wanted[-1]:
                raise errors.LaunchError(f"cannot listen on port {number} of {host}: {error}") from error
    raise AssertionError  # the loop ends with a socket or an error


_USUAL_PORT = 7766


def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="critical",
        server_header=False,
        timeout_graceful_shutdown=1,  # streams of events have no end
        ws="none",
    )
    uvicorn.Server(config).run([listening])
