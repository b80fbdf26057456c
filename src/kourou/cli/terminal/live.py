"""Live displays in a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import termios
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.live import Live

__all__ = ["live_display"]


@contextlib.contextmanager
def live_display(out: Console, **options: Any) -> Iterator[Live]:
    """Rich's Live. The terminal does not echo ``^C`` meanwhile, which would push what is drawn down a line."""
    with _without_echoctl(), Live(console=out, vertical_overflow="crop", **options) as live:
        yield live


@contextlib.contextmanager
def _without_echoctl() -> Iterator[None]:
    if not _is_in_foreground():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    flags = 3  # the place of the local modes
    changed = [*before[:flags], before[flags] & ~termios.ECHOCTL, *before[flags + 1 :]]
    termios.tcsetattr(sys.stdin, termios.TCSANOW, changed)
    try:
        yield
    finally:
        if _is_in_foreground():
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


def _is_in_foreground() -> bool:
    """Whether this process is in the terminal's foreground; one in the background is stopped if it changes anything."""
    with contextlib.suppress(OSError, ValueError):  # standard input is no terminal, or closed
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    return False
