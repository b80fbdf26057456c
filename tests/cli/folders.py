"""Folders of runs, written by hand: what a run leaves behind, without running one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kourou.runtime.files.run_folder import EVENTS_FILE, PLAN_FILE, node_log
from kourou.runtime.files.run_info import INFO_FILE, RunInfo
from kourou.runtime.metrics import rows, writing
from kourou.runtime.model.records import ExitRecord, NodeRecord, NodeState
from kourou.runtime.model.status import STATUS_FILE, RunState, RunStatus
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.run_search import find_run
from kourou.runtime.output.node_logs import MERGED_LOG

__all__ = ["failed_run"]

NOW = 1_790_000_000.0


def failed_run(folder: Path, labels: Sequence[str] = ("learner", "actor"), *, text: str = "no such env") -> FoundRun:
    """A run whose last node failed in its second attempt, after ten seconds; ``text`` is what all of them say."""
    folder.mkdir()
    names = [f"{label}/0" for label in labels]
    info = RunInfo.of_this_process(
        run_id=folder.name,
        program=f"program {text}",
        launch_type="local_mp",
        terminal="",
        nodes=len(names),
        coordinator="",
        stop_s=1.0,
        started_at=NOW,
        metrics_dir=str(folder),
    )
    plan = [
        {"name": name, "kind": text, "inputs": names[:1], "parent": None, "placement": "own", "process": None}
        for name in names
    ]
    events: list[dict[str, Any]] = []

    def changed(at: float, name: str, state: str, attempt: int = 1) -> None:
        event = {"event": "node", "name": name, "state": state, "pid": 1, "attempt": attempt, "will_restart": False}
        events.append({"time": NOW + at, **event})

    def ended(at: float, name: str, state: NodeState, attempt: int = 1) -> ExitRecord:
        cause = f"raised ValueError: {text}" if state is NodeState.FAILED else "finished"
        record = ExitRecord(
            node=name,
            attempt=attempt,
            state=state,
            cause=cause,
            traceback=f"Traceback …\n{text}\n" if state is NodeState.FAILED else "",
            host="here",
            pid=1,
            uptime_s=at,
        )
        events.append({"time": NOW + at, "event": "exit", **record.to_dict()})
        changed(at, name, str(state), attempt)
        return record

    for name in names:
        changed(0.1, name, "STARTING")
        changed(1.0, name, "READY")
    last = names[-1]
    ended(5.0, last, NodeState.FAILED)
    changed(6.0, last, "STARTING", 2)
    changed(7.0, last, "READY", 2)
    exits = {last: ended(10.0, last, NodeState.FAILED, 2)}
    events.append({"time": NOW + 10.0, "event": "stop", "reason": f"{last} failed", "origin": last})
    exits |= {name: ended(10.5, name, NodeState.FINISHED) for name in names[:-1]}
    records = [
        NodeRecord(name=name, state=exits[name].state, attempt=1 + (name == last), pid=1, exit=exits[name])
        for name in names
    ]
    status = RunStatus(
        run_id=info.run_id,
        program=info.program,
        launch_type=info.launch_type,
        state=RunState.FAILED,
        stop_reason=f"{last} failed",
        started_at=NOW,
        ended_at=NOW + 11,
        nodes=tuple(records),
    )
    for file, data in ((INFO_FILE, info.to_dict()), (PLAN_FILE, {"nodes": plan}), (STATUS_FILE, status.to_dict())):
        (folder / file).write_text(json.dumps(data), encoding="utf-8")
    (folder / EVENTS_FILE).write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    for place, name in enumerate(names):
        log = node_log(folder, name)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"{text} of {place}\n", encoding="utf-8")
    merged = "".join(f"2026-11-21T00:11:2{place}.000+00:00\t{name}\t{text}\n" for place, name in enumerate(names))
    (folder / MERGED_LOG).write_text(merged, encoding="utf-8")
    for step in range(30):
        for name in names:
            writing.append_once(str(folder), rows.encode_row(step, {"loss": 1 / (step + 1), text: 1}, {"node": name}))
    writing.append_once(str(folder), rows.encode_row(None, {}, {rows.CONFIG: {text: text}}))
    return dataclasses.replace(find_run(folder))
