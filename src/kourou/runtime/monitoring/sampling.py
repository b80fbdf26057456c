"""How a run fares from moment to moment: CPU, memory, calls a second and the last line of every node."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import psutil

from kourou import errors
from kourou.closing import ClosedAtExit
from kourou.courier import Client
from kourou.runtime.files.log_file import last_line
from kourou.runtime.files.run_folder import node_log
from kourou.runtime.interpreter.stacks import STACK_LINE
from kourou.runtime.metrics.reading import last_metrics
from kourou.runtime.model.engines import known_engines
from kourou.runtime.model.records import NodeRecord
from kourou.runtime.model.reports import NodeDetails, NodeReport
from kourou.runtime.model.status import RunStatus
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.remote_run import RemoteRun
from kourou.runtime.node_process.metering import ask_report, ask_usage

if TYPE_CHECKING:
    from kourou.weights.readers import WeightsReport

_ANSWER_S = 0.5  # a node whose threads are all busy does not answer in time, and its calls are not known then
_SEVERAL_HOSTS = {"ssh", *known_engines()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeSample:
    """Figures of one node, or of the launcher. None: not known (yet), or it has ended."""

    cpu_percent: float | None = None
    """Of one core, its process and all that it started; since the sample before."""
    memory_bytes: int | None = None
    """Resident without what is shared, its process and all that it started; what a memory limit is held against."""
    calls: int | None = None
    """Answered since it started."""
    calls_per_s: float | None = None
    last_line: str = ""
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What it logged last (``lp.log``): step, time, and the latest value of each metric, as JSON has it."""
    details: tuple[str, ...] = ()
    """What the node tells about itself, in lines: a replay server, of its tables."""
    weights: tuple[WeightsReport, ...] = ()
    """What a node of weights has, and who reads them: version, lag and age."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSample:
    """A run's status with figures."""

    status: RunStatus
    taken_at: float
    """Unix time."""
    nodes: dict[str, NodeSample]
    launcher: NodeSample
    """The launcher's own process, without the nodes that are processes; with those that are threads."""
    reports: dict[str, NodeReport] = dataclasses.field(default_factory=dict)
    """Of the nodes that have answered."""
    silent: tuple[str, ...] = ()
    """Those that should have answered and have not."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy: the status, and the figures within its nodes."""
        data = self.status.to_dict()
        for node in data["nodes"]:
            node.update(dataclasses.asdict(self.nodes[node["name"]]))
        return {**data, "taken_at": self.taken_at, "launcher": dataclasses.asdict(self.launcher)}


class Sampler(ClosedAtExit):
    """Takes samples of a run; rates come from two of them. Use it in a ``with``, or call :meth:`close`."""

    def __init__(self, found: FoundRun) -> None:
        self._found = found
        self._remote: RemoteRun | None = None
        if found.state.live:
            with contextlib.suppress(errors.ServerUnavailable):
                self._remote = RemoteRun(found)
        self._host = socket.gethostname()
        self._cpu: dict[psutil.Process, float] = {}
        self._calls: dict[tuple[str, int], int] = {}
        self._usage: dict[tuple[str, int], tuple[float, int]] = {}
        self._at: float | None = None

    def close(self) -> None:
        if self._remote is not None:
            self._remote.close()

    def sample(self) -> RunSample:
        """The present state. The first sample has no rates."""
        if self._remote is None and self._found.state.live:  # its job has begun, or its launcher goes on
            with contextlib.suppress(errors.ServerUnavailable):
                self._remote = RemoteRun(self._found)
        status = self.status()
        now = time.monotonic()
        elapsed = None if self._at is None else max(now - self._at, 1e-3)
        reports, silent = self._answered(status.nodes, ask_report) if status.state.live else ({}, ())
        calls = {attempt: report.server.answered for attempt, report in reports.items()}
        far = [node for node in status.nodes if self._is_far(node)] if status.state.live else []
        usage, _ = self._answered(far, ask_usage)
        cpu: dict[psutil.Process, float] = {}
        below = _children() if status.state.live else {}
        metrics = last_metrics(self._found.info.metrics_dir or self._found.path)
        samples = {}
        shown: set[int | None] = set()
        for node in status.nodes:
            alive = node.pid if self._has_process(node) and node.pid not in shown and status.state.live else None
            shown.add(node.pid)  # a node whose threads are nodes, too, comes before them
            figures = self._figures(_tree(alive, below) if alive else (), cpu, elapsed)
            attempt = (node.name, node.attempt)
            count = calls.get(attempt)
            told = reports[attempt].details if attempt in reports else NodeDetails()
            if attempt in usage:
                figures = self._far_figures(attempt, usage, elapsed)
            samples[node.name] = dataclasses.replace(
                figures,
                calls=count,
                calls_per_s=self._rate(node, count, elapsed),
                last_line=last_line(node_log(self._found.path, node.name), passing_over=STACK_LINE),
                metrics=metrics.get(node.name, {}),
                details=told.lines,
                weights=told.weights,
            )
        launcher_tree = _tree(self._found.info.pid, {}) if status.state.live and self._found.info.here else ()
        launcher = self._figures(launcher_tree, cpu, elapsed)
        self._cpu, self._calls, self._usage, self._at = cpu, calls, usage, now
        return RunSample(
            status=status,
            taken_at=time.time(),
            nodes=samples,
            launcher=launcher,
            reports={name: report for (name, _), report in reports.items()},
            silent=silent,
        )

    def status(self) -> RunStatus:
        """The run and its nodes, without figures."""
        if remote := self._reachable():
            try:
                return remote.status()
            except errors.ServerUnavailable:
                pass  # it has ended; its last status was written before its coordinator went
        return self._found.status()

    def _reachable(self) -> RemoteRun | None:
        """None: there is nobody to ask now."""
        return None if self._found.info.launcher_suspended else self._remote

    def _has_process(self, node: NodeRecord) -> bool:
        here = node.host in {self._host, "localhost"}
        return node.pid != self._found.info.pid and here and not node.state.ended

    def _is_far(self, node: NodeRecord) -> bool:
        """Whether it has a process on another host, where only itself can look at it."""
        return self._found.info.launch_type in _SEVERAL_HOSTS and not node.state.ended and not self._has_process(node)

    def _answered(
        self, nodes: Iterable[NodeRecord], ask: Callable[[Client], Any]
    ) -> tuple[dict[tuple[str, int], Any], tuple[str, ...]]:
        """What each attempt answers, of those that answer in time; and the names of those that do not."""
        remote = self._reachable()
        if remote is None:
            return {}, ()
        attempts = {node.name: node.attempt for node in nodes if node.serves}
        answers, silent = remote.ask_all(list(attempts), ask, _ANSWER_S)
        return {(name, attempts[name]): answer for name, answer in answers.items()}, silent

    def _far_figures(
        self, attempt: tuple[str, int], usage: dict[tuple[str, int], tuple[float, int]], elapsed: float | None
    ) -> NodeSample:
        spent_s, memory = usage[attempt]
        before = self._usage.get(attempt)
        percent = 100 * max(0.0, spent_s - before[0]) / elapsed if before is not None and elapsed else None
        return NodeSample(cpu_percent=percent, memory_bytes=memory)

    def _rate(self, node: NodeRecord, count: int | None, elapsed: float | None) -> float | None:
        before = self._calls.get((node.name, node.attempt))
        if count is None or before is None or elapsed is None:
            return None
        return max(0, count - before) / elapsed

    def _figures(
        self, tree: Iterable[psutil.Process], cpu: dict[psutil.Process, float], elapsed: float | None
    ) -> NodeSample:
        spent_s, memory, found = 0.0, 0, False
        for process in tree:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                cpu[process] = times.user + times.system
                spent_s += max(0.0, cpu[process] - self._cpu.get(process, 0.0))
                figures = process.memory_info()
                memory += figures.rss - getattr(figures, "shared", 0)  # as a memory limit counts it
                found = True
        if not found:
            return NodeSample()
        percent = None if elapsed is None else 100 * spent_s / elapsed
        return NodeSample(cpu_percent=percent, memory_bytes=memory)


def _children() -> dict[int, list[int]]:
    """Parent → children, of all processes: one look serves all nodes."""
    below: dict[int, list[int]] = {}
    for process in psutil.process_iter(["ppid"]):
        below.setdefault(process.info["ppid"], []).append(process.pid)
    return below


def _tree(root: int, below: dict[int, list[int]]) -> list[psutil.Process]:
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        todo += below.get(pid, [])
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return found
