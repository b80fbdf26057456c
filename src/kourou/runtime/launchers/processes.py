"""Nodes as processes of this host."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kourou.runtime.launchers.base import Launcher, LauncherEvents
from kourou.runtime.model.process import Blobs, unneeded_blobs
from kourou.runtime.plan.payloads import store_blobs
from kourou.runtime.plan.plan import LaunchPlan, NodePlan
from kourou.runtime.process.supervisor import Supervisor


class ProcessLauncher(Launcher):
    """Runs each node of a plan as a process of its own, under a :class:`Supervisor`.

    From its making on, what they are forked from is prepared; meanwhile the rest of a run can be put together.
    """

    def __init__(self, plan: LaunchPlan, supervisor: Supervisor, *, run_id: str, folder: Path) -> None:
        self._specs = {node.name: node.process for node in plan.nodes if node.process is not None}
        self._boot: dict[str, Any] = {}
        self._supervisor = supervisor
        supervisor.belong_to(run_id, folder)
        self._supervisor.prepare(*self._specs.values())

    def configure(self, events: LauncherEvents, **boot: Any) -> None:
        """Who is told of all that happens, and what every node process needs to know; once, before the first start."""
        self._supervisor.events = events
        # The working folder last: a module there is found, but never in place of another one.
        path = [*sys.path, *{spec.cwd for spec in self._specs.values() if spec.cwd}]
        self._boot = {**boot, "path": path}

    def add(self, nodes: Sequence[NodePlan], blobs: Blobs) -> None:
        specs = {node.name: node.process for node in nodes if node.process is not None}
        store_blobs(blobs, Path(self._boot["payloads"]))
        folders = [spec.cwd for spec in specs.values() if spec.cwd not in self._boot["path"]]
        self._boot = {**self._boot, "path": [*self._boot["path"], *dict.fromkeys(filter(None, folders))]}
        self._specs |= specs

    def forget(self, names: set[str]) -> None:
        """These nodes are gone for good: what they alone would have unpickled is, too."""
        gone = [self._specs.pop(name) for name in names & self._specs.keys()]
        for blob in unneeded_blobs(gone, self._specs.values()):
            (Path(self._boot["payloads"]) / blob).unlink(missing_ok=True)

    def start(self, name: str, attempt: int) -> None:
        self._supervisor.start(self._specs[name], attempt, self._boot)

    def signal(self, name: str, number: int) -> None:
        self._supervisor.signal(name, number)

    def close(self) -> None:
        self._supervisor.close()
