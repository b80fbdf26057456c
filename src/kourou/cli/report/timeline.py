"""When nodes, or runs of a sweep, began and ended: one lane each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kourou.cli.report.page import Markup, escaped
from kourou.cli.terminal.formats import duration
from kourou.runtime.model.records import NodeState
from kourou.ui.history import Lives

_MOST_LANES = 80
_MOST_BARS = 200
_TICKS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bar:
    """A time in which something was so."""

    begin: float
    """Unix time."""
    end: float
    tone: str
    """``good``, ``warn``, ``bad`` or ``done``."""
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened."""

    at: float
    sign: str
    tone: str
    text: str


@dataclasses.dataclass(kw_only=True)
class Lane:
    """What happened to one node."""

    name: str
    bars: list[Bar] = dataclasses.field(default_factory=list)
    marks: list[Mark] = dataclasses.field(default_factory=list)


def lanes_of_events(events: Iterable[Mapping[str, Any]], until: float) -> tuple[list[Lane], list[Mark]]:
    """The lanes of a run's nodes in the order of their starts, and the stops that all have in common.

    Args:
        events: of the run's folder.
        until: Unix time at which what goes on ends.
    """
    told, lanes = Lives(events).page(), dict[str, Lane]()
    for life in told["lives"]:
        lane = lanes.setdefault(life["node"], Lane(name=life["node"]))
        attempt, end = f"attempt {life['attempt']}", life["ended_at"] or until
        ready = life["ready_at"] or end
        for begin, over, tone, what in (life["started_at"], ready, "warn", "starts"), (ready, end, "good", "runs"):
            if over > begin:
                text = f"{what}, {attempt}, {duration(over - begin)}"
                lane.bars.append(Bar(begin=begin, end=over, tone=tone, text=text))
        if life["ended_at"]:
            fine = life["state"] == NodeState.FINISHED
            text = f"{lane.name} ({attempt}) {life['cause']}"
            lane.marks.append(Mark(at=end, sign="✓" if fine else "✗", tone="done" if fine else "bad", text=text))
    stops = [mark for mark in told["marks"] if mark["event"] == "stop"]
    return list(lanes.values()), [Mark(at=m["time"], sign="", tone="warn", text=f"stop: {m['reason']}") for m in stops]


def timeline(lanes: Sequence[Lane], stops: Sequence[Mark], begin: float, end: float) -> Markup:
    """The lanes below each other, from ``begin`` to ``end``; those with failures first, if there are many."""
    if not lanes:
        return Markup("")
    shown = list(lanes)
    if len(shown) > _MOST_LANES:
        shown = sorted(shown, key=lambda lane: -sum(mark.tone == "bad" for mark in lane.marks))[:_MOST_LANES]
    took = max(end - begin, 1e-3)

    def place(at: float) -> float:
        return 100 * min(1.0, max(0.0, (at - begin) / took))

    def lane_html(lane: Lane) -> str:
        drawn = [
            f'<i class="{bar.tone}" title="{escaped(bar.text)}" '
            f'style="left:{place(bar.begin):.2f}%;width:{place(bar.end) - place(bar.begin):.2f}%"></i>'
            for bar in lane.bars[-_MOST_BARS:]
        ]
        drawn += [f'<u class="{m.tone}" title="{escaped(m.text)}" style="left:{place(m.at):.2f}%"></u>' for m in stops]
        drawn += [
            f'<s class="{mark.tone}" title="{escaped(mark.text)}" style="left:{place(mark.at):.2f}%">{mark.sign}</s>'
            for mark in lane.marks[-_MOST_BARS:]
        ]
        name = escaped(lane.name)
        return f'<div class="lane"><b title="{name}">{name}</b><div class="track">{"".join(drawn)}</div></div>'

    more = len(lanes) - len(shown)
    rest = f'<p class="note">… and {more} more</p>' if more else ""
    times = "".join(f"<span>{duration(took * number / (_TICKS - 1))}</span>" for number in range(_TICKS))
    return Markup("".join(map(lane_html, shown)) + f'<div class="axis"><b></b><div>{times}</div></div>{rest}')
