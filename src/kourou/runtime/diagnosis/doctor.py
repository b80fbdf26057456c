"""Asks the nodes of a run, or reads its folder, and says what is the matter."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.runtime.diagnosis import ended, node_states, stuck
from kourou.runtime.diagnosis.finding import Diagnosis, Finding, Severity, seconds
from kourou.runtime.diagnosis.snapshot import Snapshot
from kourou.runtime.diagnosis.waiting import NOT_READY, STUCK_S
from kourou.runtime.model.names import group_of, label_of
from kourou.runtime.model.records import NodeRecord, NodeState
from kourou.runtime.model.status import RunState
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.remote_run import RemoteRun
from kourou.runtime.monitoring.stacks import is_far, stacks_of
from kourou.runtime.node_process.metering import ask_report
from kourou.threads import starting
from kourou.waits import is_users

_ANSWER_S = 2.0  # a node that does not answer twice in that time is silent
_BETWEEN_S = 0.5
_STACKS_S = 1.5
_MOST_STACKS = 8
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+),? in (?P<name>\S+)')
_IN_CALL = ("kourou/courier/reconnecting.py", "kourou/runtime/waiting/node_target.py")


def examine(found: FoundRun) -> Diagnosis:
    """Look at a run twice within a second, or at what it left; nodes that hang are given some seconds to answer."""
    if found.state.live:
        try:
            with RemoteRun(found) as remote:
                return _of_live(remote)
        except errors.ServerUnavailable as error:
            if found.state.live:
                return _of_silent_launcher(found, error)
    status = found.status()
    if status.state is RunState.PENDING:
        waits = tuple(node_states.unplaced(status, time.time()))
        return Diagnosis(run_id=found.run_id, state=str(status.state), findings=waits, summary="it has not begun")
    findings = ended.find(status, found.events())
    lasted = "" if status.ended_at is None else f"after {seconds(status.ended_at - status.started_at)}"
    return Diagnosis(
        run_id=found.run_id,
        state=str(status.state),
        findings=tuple(findings),
        summary=lasted or "it is not known when",
    )


def _inputs(nodes: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Whom each node may call; who has a handle of a group, all of its nodes."""
    groups: dict[str, list[str]] = {}
    for node in nodes:
        groups.setdefault(group_of(label_of(node["name"])), []).append(node["name"])
    return {
        node["name"]: tuple(name for given in node["inputs"] for name in groups.get(given, [given])) for node in nodes
    }


def _of_live(remote: RemoteRun) -> Diagnosis:
    inputs = _inputs(remote.found.plan()["nodes"])
    before = _look(remote, inputs)
    time.sleep(_BETWEEN_S)
    now = _look(remote, inputs, silent_before=before.silent, places=True)
    findings = stuck.find(before, now)
    running = sum(node.state is NodeState.READY for node in now.status.nodes)
    bad = sum(finding.severity is not Severity.NOTE for finding in findings)
    answered = sum(report.server.answered for report in now.reports.values()) - sum(
        report.server.answered for report in before.reports.values()
    )
    rate = max(0.0, answered / (now.taken_at - before.taken_at))
    health = f"{bad} finding{'s' if bad > 1 else ''}" if bad else "healthy"
    return Diagnosis(
        run_id=now.status.run_id,
        state=str(now.status.state),
        findings=tuple(findings),
        summary=f"{health}; {running} of {len(now.status.nodes)} nodes are ready, {rate:.0f} calls/s",
    )


def _of_silent_launcher(found: FoundRun, error: errors.ServerUnavailable) -> Diagnosis:
    pid = found.info.pid
    why = "does not answer: it runs code that holds the interpreter's lock"
    ends = f"that code returns; py-spy dump --pid {pid} shows where it is"
    if found.info.launcher_suspended:
        why, ends = "is suspended, by Ctrl-Z or SIGSTOP; the nodes go on", f"`fg` in its shell, or kill -CONT {pid}"
    finding = Finding(
        severity=Severity.ERROR,
        kind="silent",
        nodes=(),
        text=f"the launcher (process {pid}) {why}",
        details=(str(error),),
        ends=ends,
    )
    return Diagnosis(run_id=found.run_id, state=str(found.state), findings=(finding,), summary="1 finding")


def _look(
    remote: RemoteRun,
    inputs: Mapping[str, tuple[str, ...]],
    *,
    silent_before: Iterable[str] | None = None,
    places: bool = False,
) -> Snapshot:
    status = remote.status()
    serving = [node.name for node in status.nodes if node.serves]
    reports, silent = remote.ask_all(serving, ask_report, _ANSWER_S)
    if silent_before is not None:
        silent = tuple(name for name in silent if name in silent_before)
    at, calling = _places(remote, status.nodes, silent) if places else ({}, frozenset[str]())
    return Snapshot(
        taken_at=time.time(),
        status=status,
        inputs=inputs,
        reports=reports,
        silent=silent,
        places=at,
        calling=calling,
    )


def _places(
    remote: RemoteRun, nodes: Iterable[NodeRecord], silent: Iterable[str]
) -> tuple[dict[str, str], frozenset[str]]:
    """Where those nodes are that cannot tell, and which of them are in a call; of some, if there are many."""
    by_name = {node.name: node for node in nodes}
    begun_before = time.time() - STUCK_S  # whoever begins just now is not asked: it will be ready before it has told
    unready = [
        name
        for name, node in by_name.items()
        if node.state is NodeState.STOPPING or (node.state in NOT_READY and (node.started_at or 0.0) <= begun_before)
    ]
    wanted = [name for name in [*silent, *unready] if by_name[name].pid is not None]
    wanted = [name for name in wanted if not is_far(remote.found, by_name[name])][:_MOST_STACKS]
    frames: dict[str, list[re.Match[str]]] = {}

    def ask(name: str) -> None:
        with contextlib.suppress(errors.KourouError, OSError):
            frames[name] = _frames(stacks_of(remote, name, by_name, _STACKS_S), name)

    if wanted:
        with starting("kourou-stacks"), ThreadPoolExecutor(len(wanted), "kourou-stacks") as pool:
            list(pool.map(ask, wanted))
    places = {name: place for name, mine in frames.items() if (place := _users(mine))}
    calling = (name for name, mine in frames.items() if any(one["file"].endswith(_IN_CALL) for one in mine))
    return places, frozenset(calling)


def _frames(text: str, name: str) -> list[re.Match[str]]:
    """The frames of a node's own thread, the innermost first: of its process's main thread, or of one of its name."""
    threads = text.split("\n\n") if text.startswith("Current") else re.split(r"\n(?=Thread )", text)
    own = next((thread for thread in threads if thread.startswith(f"Thread kourou:{name} ")), None)
    if own is not None:
        return list(_FRAME.finditer(own))[::-1]  # as tracebacks have them
    return list(_FRAME.finditer(threads[0])) if text.startswith("Current") else []


def _users(frames: Iterable[re.Match[str]]) -> str:
    for frame in frames:
        if is_users(frame["file"]):
            return f"{Path(frame['file']).name}:{frame['line']} in {frame['name']}"
    return ""
