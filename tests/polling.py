"""Waiting for a thing to become true, with a deadline, and telling whether a process is dead."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from pathlib import Path

from kourou.testing.polling import until
from optional import psutil

__all__ = ["WAIT_S", "alive", "all_gone", "closed_by_peer", "complaints", "marked", "until"]

WAIT_S = 100.0
"""Seconds that anything may take on a busy machine; less than a test's time-out, which does not say what is missing."""


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie is dead, and so is one whose pid was given to another."""
    try:
        return bool(process.is_running() and process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD})
    except psutil.NoSuchProcess:
        return False


def all_gone(processes: Iterable[psutil.Process], within_s: float) -> float:
    """Wait until all are dead; the seconds it took."""
    started = time.monotonic()
    watched = list(processes)
    assert watched, "there is nothing to watch"
    until(lambda: not any(alive(p) for p in watched), within_s, f"the end of {watched}")
    return time.monotonic() - started


def complaints(printed: str) -> list[str]:
    """The lines of a launcher's stderr, but for those that tell of a node which takes long to start: on a busy machine
    one that imports torch does.
    """
    return [line for line in printed.splitlines() if not line.startswith("still waiting for ")]


def closed_by_peer(connection: socket.socket) -> bool:
    """Whether the other end has closed a connection, once all is read that it sent."""
    connection.setblocking(False)
    try:
        while connection.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


def marked(runs_dir: Path) -> list[psutil.Process]:
    """The living processes that have this KOUROU_RUNS_DIR: a launcher of the test and whatever it started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("KOUROU_RUNS_DIR") == str(runs_dir) and alive(process):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found
