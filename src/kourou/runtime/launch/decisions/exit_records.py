"""How a node ended, from what the operating system saw, what the node said, and what was done to it."""

from __future__ import annotations

from kourou.runtime.launch.decisions.tracked_node import TrackedNode
from kourou.runtime.model.records import ExitRecord, NodeState, Outcome, ProcessExit, describe_signal

_LEFT_BEHIND = "did not end in the time that its colocation gave it, and was left behind"


def exit_record_of(
    node: TrackedNode,
    exit: ProcessExit,  # noqa: A002 - it is an exit
    *,
    stopping: bool,
    now: float,
    log_file: str,
) -> ExitRecord:
    """The exit record of a node's present attempt."""
    outcome = node.outcome
    state, cause = _classified(exit, outcome, killed=node.killed, stops=_why_it_stops(node, stopping=stopping))
    cause = _with_removal(node, state, cause)
    return ExitRecord(
        node=node.name,
        attempt=node.attempt,
        state=state,
        cause=cause,
        code=exit.code,
        signal=describe_signal(exit.signal) if exit.signal else None,
        traceback=outcome.traceback if outcome else "",
        last_lines=exit.last_lines,
        log_file=log_file,
        host=node.host,
        pid=node.pid,
        uptime_s=node.uptime_s(now),
    )


def unit_exit_record_of(unit: TrackedNode, parts: list[TrackedNode], *, now: float) -> ExitRecord:
    """The exit record of a colocation of processes that ended with its last part: it fared as its worst one did."""
    ends = [part.exit for part in parts if part.exit is not None]
    worst = next((end for state in (NodeState.FAILED, NodeState.KILLED) for end in ends if end.state is state), None)
    return ExitRecord(
        node=unit.name,
        attempt=unit.attempt,
        state=worst.state if worst else NodeState.FINISHED,
        cause=f"{worst.cause} (in {worst.node})" if worst else _with_removal(unit, NodeState.FINISHED, "finished"),
        code=None if worst else 0,
        host=unit.host,
        uptime_s=unit.uptime_s(now),
    )


def removed_by(origin: str) -> str:
    """What is said of a node that somebody had removed."""
    return f"was removed ({origin})"


def _why_it_stops(node: TrackedNode, *, stopping: bool) -> str:
    if node.removed:
        return "it was removed"
    return "the program stopped" if stopping else ""


def _with_removal(node: TrackedNode, state: NodeState, cause: str) -> str:
    if not node.removed:
        return cause
    return removed_by(node.removed) if state is NodeState.FINISHED else f"{removed_by(node.removed)}, and {cause}"


def _classified(
    exit: ProcessExit,  # noqa: A002 - it is an exit
    outcome: Outcome | None,
    *,
    killed: str | None,
    stops: str,
) -> tuple[NodeState, str]:
    if outcome is not None and outcome.kind == "left":
        return NodeState.KILLED, _LEFT_BEHIND
    fault = _fault(exit, outcome, stopping=bool(stops))
    if fault is None:
        return NodeState.FINISHED, "finished"
    if killed is None and stops and exit.terminated and not exit.cause:
        killed = f"was ended by SIGTERM, since {stops}"
    elif exit.signal is None:
        killed = None
    if killed is None:
        return NodeState.FAILED, fault
    return NodeState.KILLED, f"had finished, but {killed}" if outcome is not None and outcome.clean else killed


def _fault(exit: ProcessExit, outcome: Outcome | None, *, stopping: bool) -> str | None:  # noqa: A002 - it is an exit
    """What was wrong with a node's end, the most telling first; None when nothing was."""
    faults = (
        (bool(exit.cause), exit.cause),
        (exit.signal is not None, f"was killed by {describe_signal(exit.signal or 0)}"),
        (outcome is not None and outcome.kind == "raised", f"raised {outcome.exception if outcome else ''}"),
        (exit.code != 0, f"exited with code {exit.code}"),
        (outcome is None and not stopping, "exited with code 0 before it had finished (os._exit?)"),
    )
    return next((fault for holds, fault in faults if holds), None)
