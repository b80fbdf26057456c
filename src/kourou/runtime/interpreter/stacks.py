"""Where every thread is right now: of a node's process through a signal, of this process by looking.

The signal works on a process that hangs in C code or holds the interpreter's lock for ever, since faulthandler's
handler needs no Python to run.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import re
import signal
import threading
import traceback
from pathlib import Path

from kourou import cpython

DUMP_STACKS = signal.SIGWINCH
"""Makes a node write the stacks of its threads. Its default action is to be ignored, so one that comes
before the node listens, or to a node that is a command, is harmless; terminals send it to their own sessions only, and
nodes have none; and SIGUSR1 and SIGUSR2 stay the user's."""

STACK_LINE = re.compile(r"(?:Current thread|Thread) 0x\w+ |  File \"|  <(?:no Python frame|invalid)|  \.\.\.")
"""What each line of it begins with."""

_NAME = "kourou-stacks"


def dump_on_signal() -> None:
    """From now on, DUMP_STACKS writes the stacks of all threads where ``stacks_file`` finds them."""
    descriptor = 2
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)  # who reads it may make it short
    faulthandler.register(DUMP_STACKS, descriptor, all_threads=True)


def stacks_file(pid: int, log: Path) -> Path | None:
    """Where a process writes its stacks; None: it does not listen to DUMP_STACKS.

    A file without a name, so that nothing is left of it and the log has what the node printed; where the system has
    none (macOS) it is the node's log.
    """
    if not hasattr(os, "memfd_create"):
        return log
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it was closed meanwhile
            if str(path.readlink()).startswith(f"/memfd:{_NAME} "):
                return path
    return None


def stacks_of_this_process() -> str:
    """The stacks of all threads of this process, the nodes' threads first."""
    frames = cpython.frames_of_threads()
    threads = sorted(threading.enumerate(), key=lambda thread: not thread.name.startswith("kourou:"))
    parts = []
    for thread in threads:
        frame = frames.get(thread.ident or 0)
        if frame is not None:
            stack = "".join(traceback.format_stack(frame))
            parts.append(f"Thread {thread.name} (most recent call last):\n{stack}")
    return "\n".join(parts)
