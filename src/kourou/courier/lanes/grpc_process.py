"""The process that gRPC belongs to.

gRPC's threads do not survive ``os.fork()``, but their locks do, as they were at that moment. A child that uses gRPC
again may therefore wait for ever, inside C code that no time-out reaches. Such a child gets an error instead.
"""

from __future__ import annotations

import os

from kourou.errors import UsedAfterFork

__all__ = ["claim"]

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
            f"process {os.getpid()} was forked from process {_owner}, which used gRPC, and would hang if it did so "
            "too; start it by spawn or forkserver (multiprocessing.get_context), or call a node of the same host "
            "once before the fork: children then reach it by the local lane"
        )
