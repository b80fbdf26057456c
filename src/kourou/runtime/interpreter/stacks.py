"""Where every thread is right now: of a node's process through a signal, of this process by looking.

The signal works on a process that hangs in C code or holds the interpreter's lock for ever, since faulthandler's
handler needs no Python to run.
"""

from __future__ import annotations

import faulthandler
import re
import signal
import threading
import traceback

from kourou import cpython

__all__ = ["DUMP_STACKS", "STACK_LINE", "dump_on_signal", "stacks_of_this_process"]

DUMP_STACKS = signal.SIGWINCH
"""Makes a node write the stacks of its threads to its log. Its default action is to be ignored, so one that comes
before the node listens, or to a node that is a command, is harmless; terminals send it to their own sessions only, and
nodes have none; and SIGUSR1 and SIGUSR2 stay the user's."""

STACK_LINE = re.compile(r"(?:Current thread|Thread) 0x\w+ |  File \"|  <(?:no Python frame|invalid)|  \.\.\.")
"""What each line of it begins with."""


def dump_on_signal(fd: int) -> None:
    """From now on, DUMP_STACKS writes the stacks of all threads to a file descriptor."""
    faulthandler.register(DUMP_STACKS, fd, all_threads=True)


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
