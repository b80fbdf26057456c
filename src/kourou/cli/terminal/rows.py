"""Tables of many rows: how they look, which rows are shown where there is no room for all, text that fits in one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

T = TypeVar("T")
_ROOMY = 10_000  # columns, more than any table has

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)|[\x00-\x08\x0b-\x1f\x7f]")


def plain_table(*, fill: bool = False) -> Table:
    """A table without columns yet; ``fill`` makes it as wide as the terminal, so that it does not jump."""
    return Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), expand=fill, header_style="bold"
    )


def add_flexible_column(table: Table, heading: str) -> None:
    """Add a column, of cells by :func:`one_line`, that takes what the others leave; they are not cut for its sake."""
    table.add_column(heading, overflow="ellipsis", ratio=1)  # rich shrinks columns that may wrap, before all others


def leave_out(table: Table, width: int, headings: Sequence[str]) -> None:
    """Leave out columns, in this order, until the others fit as they are: half a number reads as another one."""
    roomy = Console(width=_ROOMY)
    for heading in headings:
        if Measurement.get(roomy, roomy.options, table).maximum <= width:
            return
        table.columns[:] = [column for column in table.columns if column.header != heading]


def one_line(text: str, style: str = "") -> Text:
    """A cell that is cut where it is too long."""
    return Text(clean(text), style=style, no_wrap=True, overflow="ellipsis")


def most_urgent(rows: Sequence[T], room: int | None, urgency: Callable[[T], Any]) -> list[T]:
    """As many rows as there is room for, at least one, in their order: those of the least ``urgency``."""
    if room is None or room >= len(rows):
        return list(rows)
    kept = sorted(range(len(rows)), key=lambda place: urgency(rows[place]))[: max(1, room)]
    return [rows[place] for place in sorted(kept)]


def clean(text: str) -> str:
    """One line without what would move the cursor or colour the table."""
    return without_escapes(text.replace("\t", " ").partition("\n")[0])


def without_escapes(text: str) -> str:
    """The same lines without what only a terminal understands."""
    return _ESCAPES.sub("", text)
