"""A program's groups and who calls whom, to look at: as Mermaid's text, and as a picture that needs nothing else."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable

from kourou.runtime.model.names import label_of

_ROW, _BOX_HEIGHT, _COLUMN_GAP, _LETTER, _MARGIN = 68.0, 46.0, 84.0, 7.2, 22.0  # in pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vertex:
    """What is asked of a node."""

    name: str
    """``label/index``, with ``:place`` for a child of a colocation."""
    kind: str
    """What it is, in words."""
    inputs: tuple[str, ...]
    """The names of the nodes that it calls."""
    is_child: bool = False
    """Whether it belongs to a colocation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """The nodes of one label."""

    label: str
    """Their label."""
    kind: str
    """What they are."""
    replicas: int
    """How many there are."""

    @property
    def title(self) -> str:
        """Label and number."""
        return self.label + (f" ×{self.replicas}" if self.replicas > 1 else "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
    """Groups, and an edge from each group to those whose nodes it calls."""

    groups: tuple[Group, ...]
    """In the order in which they were added."""
    edges: tuple[tuple[str, str], ...]
    """Labels of callers and of those whom they call."""

    @classmethod
    def of(cls, nodes: Iterable[Vertex]) -> Topology:
        """That of a program's nodes."""
        members: dict[str, list[Vertex]] = {}
        for node in nodes:
            members.setdefault(label_of(node.name), []).append(node)
        groups = [
            Group(
                label=label,
                kind=" / ".join(dict.fromkeys(node.kind for node in own)),
                replicas=sum(not node.is_child for node in own),
            )
            for label, own in members.items()
        ]
        edges = dict.fromkeys(
            (label, label_of(name)) for label, own in members.items() for node in own for name in node.inputs
        )
        return cls(groups=tuple(groups), edges=tuple(edges))

    def to_mermaid(self) -> str:
        """A flowchart with one box a group; an arrow points from the caller to whom it calls."""
        ids = {group.label: f"n{i}" for i, group in enumerate(self.groups)}
        lines = ["flowchart LR"]
        for group in self.groups:
            count = f" ×{group.replicas}" if group.replicas > 1 else ""
            lines.append(f'    {ids[group.label]}["<b>{_escape(group.label)}</b>{count}<br/>{_escape(group.kind)}"]')
        lines += [f"    {ids[source]} --> {ids[target]}" for source, target in self.edges]
        return "\n".join(lines)

    def to_svg(self) -> str:
        """The same as a picture, in the colours of the page that it stands on."""
        columns = self.columns()
        height = max((len(column) for column in columns), default=0) * _ROW - _ROW + _BOX_HEIGHT
        boxes: dict[str, _Box] = {}
        left = _MARGIN
        for number, column in enumerate(columns):
            width = max(_LETTER * max(len(group.title), len(group.kind)) + 24 for group in column)
            top = _MARGIN + (height - (len(column) - 1) * _ROW - _BOX_HEIGHT) / 2
            for row, group in enumerate(column):
                boxes[group.label] = _Box(column=number, left=left, top=top + row * _ROW, width=width)
            left += width + _COLUMN_GAP
        bottom = max(height, 0) + 2 * _MARGIN
        drawn = [_arrow(boxes[caller], boxes[called], bottom) for caller, called in self.edges if called in boxes]
        drawn += [_picture(group, boxes[group.label]) for group in self.groups]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(left - _COLUMN_GAP, 0) + _MARGIN:.0f}" '
            f'height="{bottom:.0f}" font-family="sans-serif" font-size="12" fill="none" stroke="currentColor">'
            f"{''.join(drawn)}</svg>"
        )

    def columns(self) -> list[list[Group]]:
        """Who calls stands left of whom it calls, as far as nobody calls in a circle."""
        calls: dict[str, list[str]] = {group.label: [] for group in self.groups}
        for source, target in self.edges:
            if target in calls and source != target:
                calls[source].append(target)
        depth = dict.fromkeys(calls, 0)
        for source in _callers_first(calls):
            for target in calls[source]:
                if not _reaches(calls, target, source):
                    depth[target] = max(depth[target], depth[source] + 1)
        by_label = {group.label: group for group in self.groups}
        return [[by_label[label] for label in calls if depth[label] == at] for at in sorted(set(depth.values()))]


def _callers_first(calls: dict[str, list[str]]) -> list[str]:
    """Labels in an order in which callers come before whom they call, but for circles."""
    seen: set[str] = set()
    order: list[str] = []

    def visit(label: str) -> None:
        if label not in seen:
            seen.add(label)
            for target in calls[label]:
                visit(target)
            order.append(label)

    for label in calls:
        visit(label)
    return order[::-1]


def _reaches(calls: dict[str, list[str]], begin: str, goal: str) -> bool:
    seen, waiting = {begin}, [begin]
    while waiting:
        for target in calls[waiting.pop()]:
            if target == goal:
                return True
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return False


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Box:
    """Where a group is drawn."""

    column: int
    left: float
    top: float
    width: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def middle(self) -> float:
        """Halfway down."""
        return self.top + _BOX_HEIGHT / 2


def _picture(group: Group, box: _Box) -> str:
    center = box.left + box.width / 2
    return (
        f'<rect x="{box.left:.0f}" y="{box.top:.0f}" width="{box.width:.0f}" height="{_BOX_HEIGHT:.0f}" rx="6" '
        'fill="#4a90d9" fill-opacity="0.15"/><g fill="currentColor" stroke="none" text-anchor="middle">'
        f'<text x="{center:.0f}" y="{box.top + 19:.0f}" font-weight="bold">{html.escape(group.title)}</text>'
        f'<text x="{center:.0f}" y="{box.top + 36:.0f}" opacity="0.75">{html.escape(group.kind)}</text></g>'
    )


def _arrow(caller: _Box, called: _Box, bottom: float) -> str:
    """From a right side to a left one, past all boxes between; beside a column within it; else below."""
    if called.column > caller.column:
        line, head = _forward(caller, called, bottom)
    elif called.column == caller.column and called.top != caller.top:
        down = called.top > caller.top  # on the right; up on the left, so that two that call each other are two lines
        x, to, side = (caller.right, called.right, 1) if down else (caller.left, called.left, -1)
        far = max(x, to) + 36 if down else min(x, to) - 36
        y = called.middle + (-6 if down else 6)
        line = (
            f"M{x:.0f} {caller.middle:.0f} C{far:.0f} {caller.middle:.0f} {far:.0f} {y:.0f} {to + 7 * side:.0f} {y:.0f}"
        )
        head = f"M{to + 8 * side:.0f} {y - 4:.0f}l{-8 * side} 4 {8 * side} 4z"
    else:
        start, end = caller.left + caller.width / 3, called.left + 2 * called.width / 3
        below, y = caller.top + _BOX_HEIGHT, called.top + _BOX_HEIGHT
        low = max(below, y) + 20
        line = f"M{start:.0f} {below:.0f} C{start:.0f} {low:.0f} {end:.0f} {low:.0f} {end:.0f} {y + 7:.0f}"
        head = f"M{end - 4:.0f} {y + 8:.0f}l4-8 4 8z"
    return f'<g opacity="0.7"><path d="{line}"/><path d="{head}" fill="currentColor" stroke="none"/></g>'


def _forward(caller: _Box, called: _Box, bottom: float) -> tuple[str, str]:
    """Line and head of an arrow to the right; one that passes other columns does so above or below their boxes."""
    bend, x, y = _COLUMN_GAP / 2, called.left, called.middle
    way = f"C{caller.right + bend:.0f} {caller.middle:.0f} "
    if called.column > caller.column + 1:
        edge = 8.0 if caller.middle <= bottom / 2 else bottom - 8
        way += (
            f"{caller.right + bend / 2:.0f} {edge:.0f} {caller.right + 2 * bend:.0f} {edge:.0f} "
            f"L{x - 2 * bend:.0f} {edge:.0f} C{x - bend / 2:.0f} {edge:.0f} "
        )
    way += f"{x - bend:.0f} {y:.0f} {x - 7:.0f} {y:.0f}"
    return f"M{caller.right:.0f} {caller.middle:.0f} {way}", f"M{x - 8:.0f} {y - 4:.0f}l8 4-8 4z"


def _escape(text: str) -> str:
    return html.escape(text, quote=False).replace('"', "&quot;")
