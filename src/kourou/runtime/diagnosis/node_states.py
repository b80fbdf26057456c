"""What is the matter with nodes by themselves, whoever waits: no host, a breakpoint, a failure, no caller. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kourou.runtime.diagnosis.finding import Finding, Severity, counted, seconds
from kourou.runtime.diagnosis.snapshot import Snapshot
from kourou.runtime.model.records import NodeState
from kourou.runtime.model.reports import DEBUGGER
from kourou.runtime.model.status import RunStatus

_IDLE_S = 10.0  # after so long a node that serves and that nobody has called is mentioned


def unplaced(status: RunStatus, taken_at: float) -> Iterator[Finding]:
    """Nodes for which an engine has no hosts yet, of a run that has been submitted or that asks for them itself."""
    names = tuple(node.name for node in status.nodes if node.state is NodeState.PENDING)
    if status.waits_for and names:
        for_s = taken_at - status.started_at
        yield Finding(
            severity=Severity.WARNING,
            kind="unplaced",
            nodes=names,
            text=f"{counted(names)} cannot be placed, for {seconds(for_s)}: no host is there yet",
            for_s=for_s,
            ends=f"{status.launch_type} gives the hosts, or kourou stop {status.run_id} gives them up",
            details=(f"{status.launch_type} waits for {status.waits_for}",),
        )


def breakpoints(now: Snapshot) -> Iterator[Finding]:
    """Threads that wait for a debugger."""
    for name, report in now.reports.items():
        for one in report.activities:
            if one.wait is not None and one.wait.on == DEBUGGER:
                yield Finding(
                    severity=Severity.WARNING,
                    kind="breakpoint",
                    nodes=(name,),
                    text=f"{name} waits for a debugger at a breakpoint, for {seconds(one.wait.for_s)}, at {one.where}",
                    for_s=one.wait.for_s,
                    ends=f"one attaches: kourou attach {now.status.run_id} {name}",
                )


def stopping(now: Snapshot) -> Iterator[Finding]:
    """Those that have not ended yet, of a run that stops."""
    slow = [node.name for node in now.status.nodes if node.state is NodeState.STOPPING]
    mine = [name for name in slow if not (record := now.record(name)) or not record.serves_only] or slow
    if slow:
        yield Finding(
            severity=Severity.NOTE,
            kind="stopping",
            nodes=tuple(mine),
            text=f"the run stops ({now.status.stop_reason}), and waits for {counted(mine)}",
            ends="they end, or are killed at the end of the stop's timeline",
            details=tuple(f"{name} is at {now.places[name]}" for name in mine if now.places.get(name)),
        )


def restarted(now: Snapshot) -> Iterator[Finding]:
    """Those that failed, whether they run again or not."""
    for node in now.status.nodes:
        if node.exit is not None and not node.will_restart and node.attempt > node.exit.attempt:
            yield Finding(
                severity=Severity.NOTE,
                kind="restarted",
                nodes=(node.name,),
                text=f"{node.name} is at its attempt {node.attempt}: the one before {node.exit.cause}",
            )
        elif node.exit is not None and node.gone and node.state is not NodeState.FINISHED:
            yield Finding(
                severity=Severity.WARNING,
                kind="failed",
                nodes=(node.name,),
                text=f"{node.name} {node.exit.cause}, and is not started again",
                details=(f"log: {node.exit.log_file}",) if node.exit.log_file else (),
            )


def uncalled(now: Snapshot) -> Iterator[Finding]:
    """Those that only serve, and that nobody has called."""
    for node in now.status.nodes:
        report = now.reports.get(node.name)
        age_s = now.taken_at - (node.started_at or now.taken_at)
        if report is not None and node.serves_only and age_s >= _IDLE_S:
            server = report.server
            if not (server.answered or server.calls or server.queued or report.tables):
                holders = [name for name, inputs in now.inputs.items() if node.name in inputs]
                who = f"{counted(holders)} could" if holders else "no node has a handle of it"
                yield Finding(
                    severity=Severity.NOTE,
                    kind="uncalled",
                    nodes=(node.name,),
                    text=f"nobody has called {node.name} in {seconds(age_s)}: {who}",
                    for_s=age_s,
                )


def only_servers(now: Snapshot) -> Iterator[Finding]:
    """Nobody is left whose end the servers wait for."""
    left = [node for node in now.status.nodes if not node.gone]
    ended = [node.exit for node in now.status.nodes if node.gone and not (node.serves_only or node.removed)]
    if left and any(ended) and all(node.serves_only for node in left):
        yield Finding(
            severity=Severity.NOTE,
            kind="only_servers",
            nodes=tuple(node.name for node in left),
            text=f"every node with work of its own has ended; only these serve on: {counted(one.name for one in left)}",
            ends=f"somebody calls lp.stop(), or: kourou stop {now.status.run_id}",
        )
