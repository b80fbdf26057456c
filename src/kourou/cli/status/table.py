"""A sample of a run as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kourou.cli.terminal.formats import duration, percent, rate, size
from kourou.cli.terminal.rows import add_flexible_column, clean, most_urgent, one_line, plain_table
from kourou.runtime.model.records import NodeRecord, NodeState
from kourou.runtime.model.status import RunState
from kourou.runtime.plan.launch_type import LaunchType

if TYPE_CHECKING:
    from kourou.runtime.monitoring.sampling import RunSample  # it would import all that asks a live run

RUN_STYLES = {
    RunState.RUNNING: "bold green",
    RunState.SUSPENDED: "bold yellow",
    RunState.STOPPING: "bold yellow",
    RunState.FINISHED: "cyan",
    RunState.FAILED: "bold red",
    RunState.INTERRUPTED: "yellow",
    RunState.DEAD: "bold red",
    RunState.ELSEWHERE: "magenta",
    RunState.PENDING: "yellow",
}

NODE_MARKS = {
    NodeState.PENDING: ("○", "bright_black"),
    NodeState.STARTING: ("◐", "yellow"),
    NodeState.READY: ("●", "green"),
    NodeState.STOPPING: ("◑", "yellow"),
    NodeState.FINISHED: ("✓", "cyan"),
    NodeState.FAILED: ("✗", "bold red"),
    NodeState.KILLED: ("✗", "red"),
}

_TOLD_ELSEWHERE = {RunState.DEAD, RunState.FAILED}  # why, in other lines
URGENCY = (
    NodeState.FAILED,
    NodeState.KILLED,
    NodeState.STARTING,
    NodeState.STOPPING,
    NodeState.READY,
    NodeState.PENDING,
    NodeState.FINISHED,
)
"""Where there is no room for all nodes, the first of these come first."""
_WIDE_COLUMNS = {True: 90, False: 70}  # terminal columns that all figures need, of a live run and of one that has ended
_NARROW_COLUMNS = 47  # terminal columns of everything but the names, in a narrow terminal
_OTHER_LINES = 7  # around the nodes: heading, reason of a stop, header, rule, what is hidden, launcher, cursor


def status_table(sample: RunSample, *, width: int, height: int | None = None, fill: bool = True) -> RenderableType:
    """The heading, one row a node, the failures and the launcher's figures.

    Args:
        sample: what is shown.
        width: columns of the terminal.
        height: lines of the terminal, where not all nodes may find room; None: there is room for all.
        fill: make the table as wide as the terminal, so that it does not jump when its figures change.
    """
    failures = _failures(sample)
    details = _details(sample)
    room = None if height is None else height - _OTHER_LINES - len(failures) - len(details)
    nodes = most_urgent(sample.status.nodes, room, lambda node: URGENCY.index(node.state))
    parts: list[RenderableType] = [run_heading(sample, width), _nodes_table(sample, nodes, width, fill=fill)]
    if hidden := len(sample.status.nodes) - len(nodes):
        parts.append(Text(f"  … and {hidden} more nodes: {_count_states(sample, nodes)}", style="bright_black"))
    parts += details
    parts += failures
    if sample.launcher.memory_bytes is not None:
        figures = f"{percent(sample.launcher.cpu_percent)}% cpu, {size(sample.launcher.memory_bytes)}"
        parts.append(Text(f"  launcher: {figures}", style="bright_black"))
    return Group(*parts)


def run_heading(sample: RunSample, width: int) -> Text:
    """The run's name, how it fares, and why it stops."""
    status = sample.status
    style = RUN_STYLES[status.state]
    lasted = duration((status.ended_at or sample.taken_at) - status.started_at)
    words = {
        RunState.RUNNING: f"running for {lasted}",
        RunState.SUSPENDED: f"suspended: fg in its shell lets it go on; begun {lasted} ago",
        RunState.STOPPING: f"stopping, after {lasted}",
        RunState.DEAD: f"its launcher died, after {lasted}",
        RunState.ELSEWHERE: "launched on another host: look there",
        RunState.PENDING: f"pending for {lasted}" + (f": {clean(status.waits_for)}" if status.waits_for else ""),
    }
    facts = Text.assemble(
        status.launch_type,
        ("  ·  ", "bright_black"),
        (words.get(status.state, f"{status.state} after {lasted}"), style),
    )
    if status.ended_at is not None:
        facts.append(f"  ({duration(sample.taken_at - status.ended_at)} ago)", style="bright_black")
    separator = "  ·  " if len(status.run_id) + len(facts) + 5 <= width else "\n"
    text = Text.assemble((status.run_id, "bold"), (separator, "bright_black"), facts)
    if status.stop_reason and (status.state not in _TOLD_ELSEWHERE or (status.state.over and not status.nodes)):
        verb = "stopping" if status.state.live else "stopped"
        text.append(f"\n{verb} because: {clean(status.stop_reason)}", style="bright_black")
    if status.waits_for and status.state.live:
        text.append(f"\nno node has a host yet: waiting for {clean(status.waits_for)}", style="yellow")
    return text


def _nodes_table(sample: RunSample, nodes: Iterable[NodeRecord], width: int, *, fill: bool) -> Table:
    wide = width >= _WIDE_COLUMNS[sample.status.state.live]
    table = plain_table(fill=fill)
    table.add_column(
        "node", no_wrap=True, overflow="ellipsis", max_width=28 if wide else max(8, width - _NARROW_COLUMNS)
    )
    table.add_column("state", no_wrap=True, min_width=10)
    if on_hosts(sample):
        table.add_column("host", no_wrap=True, overflow="ellipsis", max_width=16)
    if wide:
        table.add_column("pid", justify="right", no_wrap=True)
        table.add_column("try", justify="right", no_wrap=True)
    table.add_column("up", justify="right", no_wrap=True, min_width=7)
    for heading, least in (("cpu %", 5), ("memory", 8), ("calls/s", 7)) if sample.status.state.live else ():
        table.add_column(heading, justify="right", no_wrap=True, min_width=least)
    rows = [node_cells(node, sample) for node in nodes]
    if wide and any(row["metrics"] for row in rows):
        add_flexible_column(table, "metrics")
    if wide:
        add_flexible_column(table, "last line")
    for row in rows:
        table.add_row(*(row[str(column.header)] for column in table.columns))
    return table


def on_hosts(sample: RunSample) -> bool:
    """Whether nodes may be on several hosts."""
    return LaunchType(sample.status.launch_type).hosts


def node_cells(node: NodeRecord, sample: RunSample) -> dict[str, Text]:
    """What is told of a node, by the headings of columns."""
    figures = sample.nodes[node.name]
    mark, style = NODE_MARKS[node.state]
    dim = "bright_black" if node.state.ended or node.state is NodeState.PENDING else ""
    state = "restarting" if node.will_restart else str(node.state).lower()
    if node.removed and node.state in {NodeState.STOPPING, NodeState.FINISHED}:
        state = "removed" if node.state.ended else "removing"
    up = sample.taken_at - node.started_at if node.started_at else None
    if node.state.ended and node.exit:
        up = node.exit.uptime_s
    live = {
        "cpu %": percent(figures.cpu_percent),
        "memory": size(figures.memory_bytes),
        "calls/s": rate(figures.calls_per_s),
    }
    return {
        "node": Text(clean(node.name), style="" if not node.state.ended else dim),
        "state": Text(f"{mark} {state}", style=style),
        "host": Text(node.host, style=dim),
        "pid": Text(str(node.pid or ""), style="bright_black"),
        "try": Text(str(node.attempt or ""), style="yellow" if node.attempt > 1 else "bright_black"),
        "up": Text("" if up is None else duration(up), style=dim),
        **{heading: Text(text, style="" if text.strip("–0") else "bright_black") for heading, text in live.items()},
        "metrics": one_line(_last_metrics(figures.metrics)),
        "last line": one_line(figures.last_line, dim),
    }


def _last_metrics(row: Mapping[str, Any]) -> str:
    """The latest metrics of a node in a line: ``1,200: loss 0.031  reward/mean 17.5``."""
    told = [f"{clean(name)} {_short(value)}" for name, value in row.items() if name not in {"step", "time"}]
    step = row.get("step")
    return "  ".join([*([] if step is None else [f"{step:,}:"]), *told])


def _short(value: Any) -> str:
    return clean(str(value)) if isinstance(value, (str, bool)) or value is None else f"{value:.4g}"


def _failures(sample: RunSample) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for node in sample.status.nodes:
        if node.exit is not None and node.exit.state is not NodeState.FINISHED:
            text = Text.assemble(
                ("  ✗ ", "red"), (node.name, "bold"), f" {clean(node.exit.cause)}", overflow="ellipsis", no_wrap=True
            )
            if node.exit.attempt != node.attempt:
                text.append(f" (attempt {node.exit.attempt})", style="bright_black")
            lines.append(text)
    if len(lines) > _MOST_FAILURES:
        lines[_MOST_FAILURES:] = [Text(f"    and {len(lines) - _MOST_FAILURES} more", style="bright_black")]
    return lines


_MOST_FAILURES = 3
_MOST_DETAILS = 8


def _details(sample: RunSample) -> list[RenderableType]:
    """What nodes tell about themselves."""
    lines: list[RenderableType] = [
        Text.assemble(("  ", ""), (node.name, "bold"), f" {clean(line)}", overflow="ellipsis", no_wrap=True)
        for node in sample.status.nodes
        for line in sample.nodes[node.name].details
    ]
    if len(lines) > _MOST_DETAILS:
        lines[_MOST_DETAILS:] = [Text(f"    and {len(lines) - _MOST_DETAILS} more", style="bright_black")]
    return lines


def _count_states(sample: RunSample, shown: list[NodeRecord]) -> str:
    hidden = [str(node.state).lower() for node in sample.status.nodes if node not in shown]
    return ", ".join(f"{hidden.count(state)} {state}" for state in dict.fromkeys(hidden))
