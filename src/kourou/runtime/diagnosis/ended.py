"""How a run ended, and what was slow: from its last status and its events. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kourou.runtime.diagnosis.finding import Finding, Severity, counted, seconds
from kourou.runtime.model.records import ExitRecord, NodeState
from kourou.runtime.model.status import RunState, RunStatus

_SLOW_START_S = 5.0
_SLOW_STOP_S = 3.0
_MOST_LINES = 3
_BAD = {RunState.FAILED, RunState.DEAD}


def find(status: RunStatus, events: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """What is to be said of a run that has ended, the worst first."""
    exits = [ExitRecord.from_dict(event) for event in events if event["event"] == "exit"]
    bad = [one for one in exits if one.state is NodeState.FAILED]
    found = list(_failures(status, bad))
    if status.state is RunState.DEAD:
        found.insert(0, _dead(status))
    elif status.state is RunState.INTERRUPTED:
        text = f"it was interrupted: {status.stop_reason}"
        found.insert(0, Finding(severity=Severity.NOTE, kind="interrupted", nodes=(), text=text))
    elif status.state is RunState.FAILED and not found:
        text = f"it failed: {status.stop_reason}"
        found.append(Finding(severity=Severity.ERROR, kind="failed", nodes=(), text=text))
    return [*found, *_killed(events), *_slow_starts(events), *_slow_stop(events)]


def _failures(status: RunStatus, bad: Sequence[ExitRecord]) -> Iterator[Finding]:
    """The failure that came first, and those of the same node counted; others follow from it, mostly."""
    ended = status.state in _BAD
    for place, name in enumerate(dict.fromkeys(one.node for one in bad)):
        mine = [one for one in bad if one.node == name]
        last = mine[-1]
        times = f", {len(mine)} times" if len(mine) > 1 else ""
        lines = [line for line in last.traceback.splitlines() if line.strip(" ^~")] or list(last.last_lines)
        log = (f"log: {last.log_file}",) if last.log_file else ()
        first = " first" if ended and place == 0 else ""
        yield Finding(
            severity=Severity.ERROR if ended and place == 0 else Severity.NOTE,
            kind="failed" if ended else "restarted",
            nodes=(name,),
            text=f"{name} failed{first}{times}: it {last.cause}, after {seconds(last.uptime_s)}",
            details=(*(line.strip() for line in lines[-_MOST_LINES:]), *log),
        )


def _dead(status: RunStatus) -> Finding:
    return Finding(
        severity=Severity.ERROR,
        kind="dead",
        nodes=(),
        text="its launcher died without a word, and the nodes with it: it was killed, or ran out of memory "
        f"(at that moment {sum(node.state is NodeState.KILLED for node in status.nodes)} nodes ran)",
    )


def _killed(events: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    names = [event["node"] for event in events if event["event"] == "kill"]
    if names:
        yield Finding(
            severity=Severity.WARNING,
            kind="killed",
            nodes=tuple(names),
            text=f"{counted(names)} did not end when the run stopped, and had to be killed",
            ends="a loop that asks lp.stop_requested() or lp.wait_for_stop(), or a timeout_s for calls that may hang",
        )


def _slow_starts(events: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """The node that took longest to become ready."""
    begun: dict[tuple[str, int], float] = {}
    took: dict[str, float] = {}
    for event in events:
        if event["event"] == "node":
            key = event["name"], event["attempt"]
            if event["state"] == "STARTING":
                begun.setdefault(key, event["time"])
            elif event["state"] == "READY" and key in begun:
                took[event["name"]] = max(took.get(event["name"], 0.0), event["time"] - begun[key])
    slow = sorted((name for name in took if took[name] >= _SLOW_START_S), key=lambda name: -took[name])
    if slow:
        yield Finding(
            severity=Severity.NOTE,
            kind="slow_start",
            nodes=tuple(slow),
            text=f"{slow[0]} took {seconds(took[slow[0]])} to become ready"
            + (f", and {len(slow) - 1} others more than {_SLOW_START_S:.0f} s" if slow[1:] else ""),
            for_s=took[slow[0]],
        )


def _slow_stop(events: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Who ended last after the stop."""
    stops = [event["time"] for event in events if event["event"] == "stop"]
    exits = [(event["time"], event["node"]) for event in events if event["event"] == "exit"]
    if not stops or not exits:
        return
    last, _ = max(exits)
    insisted = {event["node"] for event in events if event["event"] in {"interrupt", "terminate"}}
    slow = [name for when, name in exits if when - stops[0] >= _SLOW_STOP_S]
    if slow:
        yield Finding(
            severity=Severity.NOTE,
            kind="slow_stop",
            nodes=tuple(slow),
            text=f"the stop took {seconds(last - stops[0])}: {counted(slow)} ended late"
            + (", though interrupted" if insisted.intersection(slow) else ""),
            for_s=last - stops[0],
        )
