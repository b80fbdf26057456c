"""Naming a process beyond doubt: its pid, and when it started."""

from __future__ import annotations

import sys
from pathlib import Path


def process_start(pid: int) -> str | None:
    """When a process started, in the system's own words; with the pid it names a process. None: there is none.

    On Linux ticks since boot, since times of day shift when the clock is set.
    """
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
        return None if fields[0] in "ZX" else fields[19]
    import psutil  # noqa: PLC0415 - Linux needs none of it, and a launch of threads has to be quick

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return None


def is_suspended(pid: int) -> bool:
    """Whether a process was suspended, by Ctrl-Z or SIGSTOP."""
    import psutil  # noqa: PLC0415 - as above

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
