"""What was printed and waits in this process."""

from __future__ import annotations

import contextlib
import sys


def flush_printed() -> None:
    """Before a process ends at once, or forks: let nothing that was printed be lost, or be printed by the child, too.

    Programs may have put anything in the place of these streams: None, one that is closed, a terminal that has gone.
    """
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(Exception):
            stream.flush()  # type: ignore[union-attr]  # None raises, too
