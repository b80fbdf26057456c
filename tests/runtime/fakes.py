"""A launcher whose nodes do what a test tells them, and a director that directs it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kourou.runtime.control.coordinator import Coordinator
from kourou.runtime.files.run_folder import RunFolder
from kourou.runtime.launch.director import Director
from kourou.runtime.model.records import NodeRecord, NodeState, Outcome, ProcessExit
from kourou.runtime.output.node_logs import NodeLogs, Terminal
from kourou.runtime.plan.launch_type import LaunchType
from kourou.runtime.plan.plan import LaunchPlan, NodePlan, Placement
from kourou.runtime.stopping.timeline import StopTimeline
from polling import WAIT_S, until
from runtime.playing import SIGNALS


class FakeLauncher:
    """Records what it is asked for; ``on`` maps a request to what a node does then."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.attempts: list[tuple[str, int]] = []
        self.on: dict[str, Callable[[str], None]] = {}
        self._lock = threading.Lock()

    def add(self, nodes: object, blobs: object) -> None:
        self._call("add", "")

    def forget(self, names: set[str]) -> None:
        self._call("forget", "")

    def start(self, name: str, attempt: int) -> None:
        with self._lock:
            self.attempts.append((name, attempt))
        self._call("start", name)

    def signal(self, name: str, number: int) -> None:
        self._call(SIGNALS[number], name)

    def close(self) -> None:
        self._call("close", "")

    def _call(self, kind: str, name: str) -> None:
        with self._lock:
            self.calls.append((kind, name))
        if kind in self.on:
            self.on[kind](name)


class Stage:
    """A director of a program of fake nodes, with everything around it."""

    def __init__(self, folder: Path, *nodes: NodePlan, stop: StopTimeline | None = None) -> None:
        self.plan = LaunchPlan(
            program="fake",
            launch_type=LaunchType.LOCAL_MULTI_PROCESSING,
            nodes=nodes,
            stop=stop or StopTimeline(ask_s=60.0),
        )
        self.folder = RunFolder("fake-run", folder)
        self.terminal = io.StringIO()
        self.logs = NodeLogs(self.folder.log_file, Terminal(self.terminal), merged=self.folder.path / "output.log")
        self.changes: list[NodeRecord] = []
        self.coordinator = Coordinator(
            [NodeRecord(name=node.name, serves_only=node.serves_only) for node in nodes],
            on_change=self.changes.append,
            tell_director=lambda event: self.director.tell(event),  # noqa: PLW0108 - made below
        )
        self.launcher = FakeLauncher()
        self.gave_back = threading.Event()
        self.exits: list[Any] = []
        self.director = Director(
            self.plan,
            self.coordinator,
            folder=self.folder,
            logs=self.logs,
            on_node_exit=self.exits.append,
            on_end=self._on_end,
        )

    def _on_end(self) -> None:
        self.logs.close()
        self.folder.close()
        self.gave_back.set()

    def start(self, *, ready: bool = True) -> None:
        self.director.start(self.launcher)
        launched = [node for node in self.plan.nodes if node.placement is Placement.OWN]
        until(lambda: len(self.launcher.attempts) >= len(launched), WAIT_S)
        for node in self.plan.nodes if ready else ():
            self.coordinator.change(node.name, 1, state=NodeState.READY)

    def exit(
        self,
        name: str,
        code: int | None = 0,
        *,
        signal: int | None = None,
        outcome: Outcome | None = None,
        attempt: int = 1,
    ) -> None:
        """A node ends: in its own words, if ``outcome`` is given, and as the system saw it."""
        if outcome is not None:
            self.coordinator.report(name, attempt, outcome)
        self.director.on_exited(name, attempt, ProcessExit(code=code, signal=signal, last_lines=("last words",)))

    def finish(self, name: str, attempt: int = 1) -> None:
        self.exit(name, 0, outcome=Outcome(kind="finished"), attempt=attempt)

    def record(self, name: str) -> NodeRecord:
        record = self.coordinator.directory.get(name)
        assert record is not None
        return record

    def ended(self) -> bool:
        return self.director.ended.wait(WAIT_S)

    def asked(self, kind: str) -> list[str]:
        return [name for called, name in self.launcher.calls if called == kind]
