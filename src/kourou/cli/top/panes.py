"""What the panes below the nodes say: who waits for whom, what happened, what was measured."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text

from kourou.cli.control.doctor import diagnosis_lines
from kourou.cli.status.table import NODE_MARKS
from kourou.cli.terminal.rows import clean
from kourou.cli.top.follow import Seen
from kourou.runtime.diagnosis.finding import Diagnosis
from kourou.runtime.files.run_folder import BEGINS_AGAIN
from kourou.runtime.model.records import NodeState

_MOST_EVENTS = 200
_MOST_METRICS = 200
_SPARK_COLUMNS = 24
_BARS = "▁▂▃▄▅▆▇█"


def waits_text(diagnosis: Diagnosis | None) -> Text:
    """What the doctor says."""
    return Text("\n").join(diagnosis_lines(diagnosis)) if diagnosis else Text("asking the nodes …", "bright_black")


class EventsPane:
    """What has happened: a line for each change of a node's state, each exit and each step of the stop."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, int]] = {}
        self._lines: deque[Text] = deque(maxlen=_MOST_EVENTS)

    def add(self, events: Iterable[Mapping[str, Any]]) -> None:
        """What is new."""
        for event in events:
            if event["event"] == BEGINS_AGAIN:
                self._known.clear()
                self._lines.clear()
            told = self._told(event)
            if told is not None:
                clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
                self._lines.appendleft(Text.assemble((f"{clock} ", "bright_black"), told))

    def text(self) -> Text:
        """The newest first."""
        return Text("\n").join(self._lines) if self._lines else Text("nothing yet", "bright_black")

    def _told(self, event: Mapping[str, Any]) -> Text | None:
        kind = event["event"]
        if kind == "node":
            name, now = event["name"], (event["state"], event["attempt"])
            state = NodeState(event["state"])
            if self._known.get(name) == now or state.ended or state is NodeState.PENDING:
                return None  # another part of its record changed
            self._known[name] = now
            again = f", attempt {event['attempt']}" if event["attempt"] > 1 else ""
            mark, style = NODE_MARKS[state]
            return Text.assemble((f"{mark} ", style), (clean(name), "bold"), f" {event['state'].lower()}{again}")
        if kind == "exit":
            mark, style = NODE_MARKS[NodeState(event["state"])]
            return Text.assemble((f"{mark} ", style), (clean(event["node"]), "bold"), f" {clean(event['cause'])}")
        if kind == "stop":
            return Text(f"■ stop: {clean(event['reason'])}", "yellow")
        return Text(f"  {kind} {clean(str(event.get('node', '')))}", "yellow")


def numbers_text(seen: Seen) -> Text:
    """What nodes tell about themselves, such as a replay server of its tables; and what they log."""
    lines = [
        Text.assemble((clean(node.name), "bold"), f" {clean(line)}")
        for node in seen.sample.status.nodes
        for line in seen.sample.nodes[node.name].details
    ]
    logged = sorted(seen.metrics.items(), key=lambda item: (item[0][1], item[0][0]))  # by metric, so that nodes compare
    width = max((len(name) for (_, name), _ in logged), default=0)
    for (node, name), values in logged[:_MOST_METRICS]:
        bars = (spark(values[-_SPARK_COLUMNS:]).rjust(_SPARK_COLUMNS), "cyan")
        lines.append(
            Text.assemble(f"{clean(name):<{width}} ", (f"{values[-1]:>10.4g} ", "bold"), bars, f" {clean(node)}")
        )
    if not lines:
        return Text("no replay tables, no weights, and nothing was logged (lp.log)", "bright_black")
    return Text("\n").join(lines)


def spark(values: Sequence[float]) -> str:
    """Numbers as bars of one character each; a blank for one that is not finite."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    span = high / 2 - low / 2  # halves, whose difference is finite
    shares = [0.5 if span == 0 else (value / 2 - low / 2) / span if math.isfinite(value) else None for value in values]
    return "".join(" " if share is None else _BARS[round(share * (len(_BARS) - 1))] for share in shares)
