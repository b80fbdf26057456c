"""Processes that an engine of this package runs beside the launcher, each with a log in the engine's folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from kourou.runtime.files.growing_file import tail

_WORDS_BYTES = 2000  # of each file
_MOST_LOGS = 4  # of those that an engine may have for each of a thousand hosts


def await_end(process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Wait until a monotonic time for one that leads its session; False if it had to be killed."""
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False
    return True


def last_words(log: Path) -> str:
    """What a log said last; "" where there is none."""
    return tail(log, _WORDS_BYTES).decode(errors="replace")


def words_in(folder: Path) -> str:
    """What the logs of a folder said last, those that were written last, indented for a message; "" for nothing."""
    newest = sorted(folder.glob("*.log"), key=lambda path: path.lstat().st_mtime_ns)[-_MOST_LOGS:]
    told = (last_words(path) for path in sorted(newest))
    return "\n".join(f"    {line}" for text in told for line in text.splitlines() if line.strip())
