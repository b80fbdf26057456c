"""The table of nodes: which are shown in which order, and how wide its columns are."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.text import Text
from textual.coordinate import Coordinate
from textual.widgets import DataTable

from kourou.cli.status.table import URGENCY, node_cells, on_hosts
from kourou.runtime.model.records import NodeRecord
from kourou.runtime.monitoring.sampling import NodeSample, RunSample

_LARGEST_FIRST: Mapping[str, Callable[[NodeRecord, NodeSample], Any]] = {
    "cpu %": lambda _, figures: figures.cpu_percent or 0.0,
    "memory": lambda _, figures: figures.memory_bytes or 0,
    "calls/s": lambda _, figures: figures.calls_per_s or 0.0,
    "try": lambda node, _: node.attempt,
    "up": lambda node, _: -(node.started_at or 0.0),
}
ORDERS = ("node", "state", *_LARGEST_FIRST)
"""By what nodes can be sorted: ``node`` is the program's own order."""
_RIGHT = {"pid", "try", "up", "cpu %", "memory", "calls/s"}
_WIDTHS = {"state": 12, "host": 14, "pid": 7, "try": 4, "up": 7, "cpu %": 6, "memory": 9, "calls/s": 8}
_LONGEST_NAME = {False: 20, True: 32}
_WIDE = 110
_LEAST_LINE = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """How nodes are shown."""

    order: str = "node"
    """One of :data:`ORDERS`."""
    backwards: bool = False
    pattern: str = ""
    """A part of a name, a pattern (``act*/1``), or a state; empty: all nodes."""

    def shows(self, node: NodeRecord) -> bool:
        """Whether a node is among those that are wanted."""
        word = self.pattern.lower()
        state = "restarting" if node.will_restart else str(node.state).lower()
        return not word or word in node.name.lower() or state.startswith(word) or fnmatch.fnmatch(node.name, word)


def arranged(sample: RunSample, view: View) -> list[NodeRecord]:
    """The nodes that a view has, in its order; those that are alike stay in the program's."""
    nodes = [node for node in sample.status.nodes if view.shows(node)]
    if view.order == "state":
        nodes.sort(key=lambda node: URGENCY.index(node.state), reverse=view.backwards)
    elif view.order in _LARGEST_FIRST:
        figure = _LARGEST_FIRST[view.order]
        nodes.sort(key=lambda node: figure(node, sample.nodes[node.name]), reverse=not view.backwards)
    elif view.backwards:
        nodes.reverse()
    return nodes


class NodesTable(DataTable[Text]):
    """One row a node; the chosen one stays chosen wherever it moves to."""

    def __init__(self) -> None:
        super().__init__(id="nodes", cursor_type="row", cell_padding=0)
        self._names: list[str] = []
        self._columns: list[tuple[str, int]] = []
        self._cells: list[list[Text]] = []

    @property
    def chosen(self) -> str:
        """The node of the cursor; empty: there is none."""
        return self._names[self.cursor_row] if 0 <= self.cursor_row < len(self._names) else ""

    def show(self, sample: RunSample, view: View, width: int) -> None:
        """Show a sample."""
        chosen = self.chosen
        nodes = arranged(sample, view)
        self._names = [node.name for node in nodes]
        columns = _columns(sample, self._names, width)
        if columns != self._columns or [str(self._heading(name, view)) for name, _ in columns] != self._headings():
            self.clear(columns=True)
            self._columns, self._cells = columns, []
            for name, cells in columns:
                self.add_column(_fitted(self._heading(name, view), name, cells), width=cells + 1, key=name)
        self._fill([self._row(node, sample) for node in nodes])
        if chosen in self._names and chosen != self.chosen:
            self.move_cursor(row=self._names.index(chosen), animate=False)

    def _headings(self) -> list[str]:
        return [str(column.label).strip() for column in self.ordered_columns]

    @staticmethod
    def _heading(name: str, view: View) -> Text:
        mark = ("▲" if view.backwards else "▼") if name == view.order and view != View(pattern=view.pattern) else ""
        return Text(f"{name}{mark}")

    def _row(self, node: NodeRecord, sample: RunSample) -> list[Text]:
        cells = node_cells(node, sample)
        return [_fitted(cells[name], name, width) for name, width in self._columns]

    def _fill(self, rows: Sequence[list[Text]]) -> None:
        """Change what differs: to draw all cells anew takes long where there are many nodes."""
        while len(self._cells) > len(rows):
            self._cells.pop()
            self.remove_row(self.coordinate_to_cell_key(Coordinate(len(self._cells), 0)).row_key)
        for place, row in enumerate(rows):
            if place == len(self._cells):
                self._cells.append(row)
                self.add_row(*row)
                continue
            for column, (old, new) in enumerate(zip(self._cells[place], row, strict=True)):
                if (old.plain, old.style) != (new.plain, new.style):
                    self.update_cell_at(Coordinate(place, column), new)
            self._cells[place] = row


def _columns(sample: RunSample, names: Sequence[str], width: int) -> list[tuple[str, int]]:
    """Headings, and how many characters each has."""
    wide = width >= _WIDE
    name_width = min(max(map(len, names), default=4), _LONGEST_NAME[wide])
    hosts = ["host"] if on_hosts(sample) else []
    chosen = ["state", *hosts, *(["pid", "try", "up"] if wide else ["try"]), "cpu %", "memory", "calls/s"]
    columns = [("node", max(name_width, 8)), *((name, _WIDTHS[name]) for name in chosen)]
    left = width - sum(cells + 1 for _, cells in columns) - 2
    if wide and any(figures.metrics for figures in sample.nodes.values()):
        columns.append(("metrics", left // 3))
        left -= left // 3 + 1
    return [*columns, ("last line", max(_LEAST_LINE, left))]


def _fitted(text: Text, name: str, width: int) -> Text:
    fitted = text.copy()
    fitted.truncate(width, overflow="ellipsis")
    fitted.align("right" if name in _RIGHT else "left", width)
    fitted.append(" ")
    return fitted
