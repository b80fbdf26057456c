"""What notebooks show of a value: tables and bars in HTML, whose look is the notebook's own."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kourou import threads
from kourou.cpython import imported

_MOST_ROWS = 60
_PAUSE_S = 1.0


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel; IPython in a terminal is none."""
    ipython: Any = imported("IPython")  # a kernel has imported it
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; of many rows the first. A cell that is None is empty."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    more = len(cells) - _MOST_ROWS
    lines = [_row("th", columns), *(_row("td", row) for row in cells[:_MOST_ROWS])]
    if more > 0:
        lines.append(f'<tr><td colspan="{len(columns)}" style="text-align:left">… and {more} more</td></tr>')
    style = "text-align:left;white-space:nowrap"
    return f'<table><caption style="{style}">{_escaped(caption)}</caption>{"".join(lines)}</table>'


def bar(text: str, done: int, total: int) -> str:
    """A progress bar with a text beside it."""
    return f'<progress value="{done}" max="{total}"></progress> {done}/{total} {_escaped(text)}'


def _escaped(text: str) -> str:
    import html  # noqa: PLC0415 - every launcher imports this module, and few are a notebook's

    return html.escape(text)


def _row(kind: str, cells: Iterable[str]) -> str:
    inner = "".join(f'<{kind} style="text-align:left">{_escaped(cell)}</{kind}>' for cell in cells)
    return f"<tr>{inner}</tr>"


class Display:
    """A place below a notebook's cell, whose content may change."""

    def __init__(self, text: str, content: str) -> None:
        import IPython.display  # noqa: PLC0415 - it is there in a notebook only

        display: Any = IPython.display.display
        self._handle: Any = display({"text/plain": text, "text/html": content}, raw=True, display_id=True)

    def update(self, text: str, content: str) -> None:
        """Show this in its place."""
        self._handle.update({"text/plain": text, "text/html": content}, raw=True)


def show_live(value: object, make_html: Callable[[], str], ended: Callable[[], bool]) -> None:
    """Show a value below the cell, and anew every second until it has ended; in a terminal, its repr."""
    if not in_notebook():
        sys.stdout.write(f"{value!r}\n")
        return
    shown = Display(repr(value), make_html())

    def follow() -> None:
        over = False
        while not over:
            time.sleep(_PAUSE_S)  # not to wait for something, but to show how it goes
            over = ended()  # before it is made, so that the last one shows the end
            shown.update(repr(value), make_html())

    if not ended():
        threads.start(threading.Thread(target=follow, name="kourou-notebook", daemon=True))
