"""grpcio's servers, made in one place: which process they belong to, and how they are set up.

gRPC's threads do not survive ``os.fork()``, but their locks do, as they were at that moment. A child that uses gRPC
again may therefore wait for ever, inside C code that no time-out reaches. Such a child gets an error instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import grpc

from kourou.errors import UsedAfterFork

MOST_TAKEN_BYTES = 4 << 20
"""The longest message that a server takes, and holds in memory; gRPC's own default, said so that nothing changes it."""

_SERVER = {
    "grpc.so_reuseport": 0,  # a port belongs to one server
    "grpc.max_receive_message_length": MOST_TAKEN_BYTES,
    "grpc.server_handshake_timeout_ms": 10_000,  # for who connects and says nothing
    "grpc.max_connection_idle_ms": 60_000,  # for who has no call under way; a channel connects again when it has one
}

_owner: int | None = None  # the process that first used gRPC


def claim() -> None:
    """To be called before gRPC is used: it belongs to this process from now on.

    Raises:
        UsedAfterFork: it belongs to a process that this one was forked from.
    """
    global _owner  # noqa: PLW0603 - one per process, as gRPC's own state is
    if _owner is None:
        _owner = os.getpid()
    elif _owner != os.getpid():
        raise UsedAfterFork(
            f"process {os.getpid()} was forked from process {_owner}, which used gRPC. Clients and servers of nodes "
            "work here, and programs can be launched, but gRPC's own services (health, reflection) would hang: serve "
            "them in a process started by spawn or forkserver (multiprocessing.get_context), or before gRPC is used"
        )


def open_server(executor: Any, options: Mapping[str, int], **limits: Any) -> grpc.Server:
    """A server, not started, whose handlers run in ``executor``; grpcio calls nothing of it but ``submit``.

    Raises:
        UsedAfterFork: see :func:`claim`.
    """
    claim()
    return grpc.server(executor, options=[*{**_SERVER, **options}.items()], **limits)
