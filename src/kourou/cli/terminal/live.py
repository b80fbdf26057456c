"""Live displays in a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import termios
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live


@contextlib.contextmanager
def live_display(out: Console, **options: Any) -> Iterator[Live]:
    """Rich's Live. The terminal does not echo ``^C`` meanwhile, which would push what is drawn down a line."""
    with _without_echoctl(), Live(console=out, vertical_overflow="crop", **options) as live:
        yield live


def can_be_drawn_over(out: Console) -> bool:
    """Whether what was printed can be replaced: not in a pipe, nor where TERM is dumb."""
    return out.is_terminal and not out.is_dumb_terminal


@contextlib.contextmanager
def watched(out: Console) -> Iterator[Callable[[RenderableType, bool], None]]:
    """What shows a table in the place of the one before; where nothing can be drawn over, below it.

    The last table, which it is told of, stays on the screen and may be longer than it.
    """
    if not can_be_drawn_over(out):
        yield lambda table, last: out.print(*([table] if last else [table, ""]))
        return
    with live_display(out, auto_refresh=False) as live:

        def show(table: RenderableType, last: bool) -> None:  # noqa: FBT001 - as it is called here
            if last:
                live.vertical_overflow = "visible"
            live.update(table, refresh=True)

        yield show


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
