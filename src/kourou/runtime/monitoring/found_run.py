"""A run as its folder tells of it: to any process of the user, while it runs and after it ended.

A folder says whom to call, with which token, and where the classes of an answer are: so it counts only if nobody but
this user can have written it (see :mod:`kourou.ownership`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kourou import errors, ownership
from kourou.runtime.files.event_follower import EventFollower
from kourou.runtime.files.run_folder import (
    CERTIFICATE_FILE,
    CHECKPOINTS,
    EVENTS_FILE,
    PICKLED_PLAN_FILE,
    PLAN_FILE,
    TOKEN_FILE,
)
from kourou.runtime.files.run_info import INFO_FILE, RunInfo
from kourou.runtime.launchers.engines.base import JobState
from kourou.runtime.launchers.engines.batch_systems import batch_system, look_at_job
from kourou.runtime.metrics.rows import METRICS_FILE
from kourou.runtime.model.records import ExitRecord, NodeRecord, NodeState
from kourou.runtime.model.status import STATUS_FILE, RunState, RunStatus
from kourou.runtime.output.node_logs import MERGED_LOG

_NO_ANSWER = {
    RunState.PENDING: "has not begun: kourou status {run} tells what it waits for",
    RunState.SUSPENDED: "is suspended: its launcher, process {pid}, answers once `fg` in its shell, or kill -CONT "
    "{pid}, has let it go on",
    RunState.DEAD: "has ended, since its launcher died: kourou logs {run} and kourou doctor {run} tell the rest",
    RunState.ELSEWHERE: "was launched on {host}: ask it there",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoundRun:
    """A run that a folder tells of."""

    path: Path
    info: RunInfo

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.info.run_id

    @property
    def state(self) -> RunState:
        """What the folder tells; one that is stopping is RUNNING here, as only its coordinator knows.

        Of one that was submitted, what its engine says of the job.
        """
        if self.info.job and (not self.ended or self._may_begin_again()):
            return self._job_state()
        if not self.ended and not self.info.here:
            return RunState.ELSEWHERE
        if not self.ended and self.info.launcher_alive and (self.path / TOKEN_FILE).exists():
            return RunState.SUSPENDED if self.info.launcher_suspended else RunState.RUNNING
        final = self._final()  # read last: it was written before the two signs of life went
        return RunState(final["state"]) if final else RunState.DEAD

    @classmethod
    def of_folder(cls, path: Path) -> FoundRun | None:
        """The run that a folder tells of, if it is one's.

        Raises:
            NotOwned: others could have written it.
        """
        with contextlib.suppress(PermissionError):  # the folder of another user, as is told next
            if path.is_symlink() or not (path / INFO_FILE).exists():
                return None
        ownership.check_own(path)
        data = _read_json(path / INFO_FILE)
        try:
            info = RunInfo.from_dict(data or {})
        except (TypeError, KeyError):
            return None  # another program's run.json
        return cls(path=path.absolute(), info=info) if info.run_id == path.name else None

    def refreshed(self) -> FoundRun:
        """The same, as its folder tells now: the launcher of one that was submitted may have begun, or begun again."""
        return FoundRun.of_folder(self.path) or self

    def check_answers(self) -> None:
        """Refuse to connect where nobody would answer.

        Raises:
            RunUnavailable: why; and what tells the rest.
        """
        state = self.state
        if state in _NO_ANSWER or not state.live:
            how = _NO_ANSWER.get(state, "has ended ({state}): kourou logs {run} and kourou doctor {run} tell the rest")
            facts = {"run": self.run_id, "state": state, "pid": self.info.pid, "host": self.info.host}
            raise errors.RunUnavailable(f"run {self.run_id} {how.format(**facts)}")

    @property
    def pending_reason(self) -> str:
        """Of one that was submitted: why its job has not begun, in the engine's words; "" when it has."""
        return self.job_reason if self.state is RunState.PENDING else ""

    @property
    def job_reason(self) -> str:
        """What its engine says of the job: why it has not begun, or why some of its hosts are not there."""
        return look_at_job(self.info.engine, self.info.job).reason

    def cancel(self) -> None:
        """End the job of one that was submitted, begun or not.

        Raises:
            LaunchError: the engine cannot be asked.
        """
        batch_system(self.info.engine).cancel(self.info.job)
        (self.path / PICKLED_PLAN_FILE).unlink(missing_ok=True)

    def _may_begin_again(self) -> bool:
        """Its launcher was terminated: its job was cancelled, or preempted and put back into the queue."""
        final = self._final()
        interrupted = final is not None and final["state"] == RunState.INTERRUPTED
        return interrupted and (self.path / PICKLED_PLAN_FILE).exists()

    @property
    def is_with_launcher(self) -> bool:
        """Its folder tells little, since the launcher's own is another one: where that is, commands have to be run."""
        return bool(self.info.job) and not batch_system(self.info.engine).shares_folder

    def command_there(self, words: Sequence[str], *, terminal: bool) -> list[str]:
        """What runs ``kourou`` with these arguments where the launcher of such a run is.

        Raises:
            ServerUnavailable: there is no launcher now.
            LaunchError: the engine cannot be asked.
        """
        return batch_system(self.info.engine).command_there(self.info.job, words, terminal=terminal)

    def logs_there(self) -> list[str]:
        """What prints what the launcher of such a run printed, ended or not."""
        return batch_system(self.info.engine).logs_there(self.info.job)

    def _job_state(self) -> RunState:
        if self.is_with_launcher:
            return self._state_there()
        info, token = self.refreshed().info, self._token()
        if info.here and info.launcher_alive and token:
            return RunState.SUSPENDED if info.launcher_suspended else RunState.RUNNING
        final = self._final()  # of an earlier incarnation, too, as long as the job waits to begin again
        try:
            job = look_at_job(info.engine, info.job, token)
        except errors.LaunchError:
            return RunState(final["state"]) if final else RunState.ELSEWHERE
        if job.state == "running" and token:
            return RunState.RUNNING
        if job.state == "pending" or not final:
            return RunState.DEAD if job.state == "gone" else RunState.PENDING
        return RunState(final["state"])

    def _token(self) -> int:
        """When the launcher that runs wrote its token, in nanoseconds; 0: there is none."""
        try:
            return (self.path / TOKEN_FILE).stat().st_mtime_ns
        except OSError:
            return 0

    def _state_there(self) -> RunState:
        try:
            job = look_at_job(self.info.engine, self.info.job)
        except errors.LaunchError:
            return RunState.ELSEWHERE
        if job.state != "gone":
            return RunState(job.state)
        if job.outcome is None:
            return RunState.DEAD
        return self._keep_last_status(job).state

    def _keep_last_status(self, job: JobState) -> RunStatus:
        """Write how a run ended that was elsewhere, before its engine forgets it."""
        assert job.outcome is not None  # noqa: S101 - it has ended
        try:
            status = RunStatus.from_dict(json.loads(job.last_words))
        except (ValueError, KeyError, TypeError):  # no status, but the end of what was printed
            said = job.last_words.rstrip().rpartition("\n")[2]
            reason = job.reason + (f"; its launcher said: {said}" if said else "")
            status = RunStatus(
                run_id=self.run_id,
                program=self.info.program,
                launch_type=self.info.launch_type,
                state=job.outcome,
                stop_reason=reason,
                started_at=self.info.started_at,
                ended_at=time.time(),
            )
        with contextlib.suppress(OSError):  # another shell may have done it
            ownership.write_own(self.path / STATUS_FILE, json.dumps(status.to_dict(), default=str).encode())
        return status

    @property
    def ended(self) -> bool:
        """Whether the run wrote its last status."""
        return (self.path / STATUS_FILE).exists()

    @property
    def ended_at(self) -> float | None:
        """Unix time of the end; of a run whose launcher died, when anything of it was last written to its folder."""
        final = self._final()
        if final:
            return float(final["ended_at"])
        return _last_written(self.path) if not self.state.live else None

    @property
    def token(self) -> str:
        """What the run's servers want to be shown.

        Raises:
            RunUnavailable: the run has ended.
            NotOwned: others could have written it.
        """
        try:
            return ownership.read_own(self.path / TOKEN_FILE).decode("ascii")
        except errors.NotOwned:
            raise
        except OSError as error:
            raise errors.RunUnavailable(f"run {self.run_id} has just ended: it has no token any more") from error

    @property
    def certificate(self) -> bytes | None:
        """What the run's servers prove themselves with; None: they speak no TLS."""
        try:
            return ownership.read_own(self.path / CERTIFICATE_FILE)
        except FileNotFoundError:
            return None

    def to_dict(self) -> dict[str, Any]:
        """What a list of runs says of it, as JSON."""
        state, ended_at = self.state, self.ended_at
        return {
            "run": self.run_id,
            "program": self.info.program,
            "launch_type": self.info.launch_type,
            "state": str(state),
            "nodes": self.info.nodes,
            "pid": self.info.pid,
            "host": self.info.host,
            "started_at": self.info.started_at,
            "ended_at": ended_at,
            "age_s": round(time.time() - self.info.started_at, 3),
            "took_s": round(ended_at - self.info.started_at, 3) if ended_at else None,
            "folder": str(self.path),
        }

    def status(self) -> RunStatus:
        """What the folder tells of the run and its nodes; ask a :class:`RemoteRun` while it is live."""
        state = self.state
        final = self._final()
        if final and state.over:
            return RunStatus.from_dict(final)
        return RunStatus(
            run_id=self.run_id,
            program=self.info.program,
            launch_type=self.info.launch_type,
            state=state,
            stop_reason=self._why_over(state),
            waits_for=self.job_reason if state is RunState.PENDING else "",
            started_at=self.info.started_at,
            ended_at=self.ended_at,
            nodes=tuple(self._nodes_of_events(dead=state is RunState.DEAD)),
        )

    def plan(self) -> dict[str, Any]:
        """The plan, as JSON has it; without nodes if there is none to be read."""
        return _read_json(self.path / PLAN_FILE) or {"nodes": []}

    def events(self) -> list[dict[str, Any]]:
        """What has happened since its latest launcher began, one after the other; who looks again follows them."""
        return EventFollower(self.path).read()

    def _why_over(self, state: RunState) -> str:
        if self.info.job and state is RunState.DEAD:
            job = look_at_job(self.info.engine, self.info.job)
            see = f"kourou logs {self.run_id}" if self.is_with_launcher else self.path / "launcher.log"
            return f"its job {self.info.job} has ended: {job.reason}; see {see}"
        return "its launcher died" if state is RunState.DEAD else ""

    def _final(self) -> dict[str, Any] | None:
        return _read_json(self.path / STATUS_FILE)

    def _nodes_of_events(self, *, dead: bool) -> list[NodeRecord]:
        """The nodes as the plan and the events tell of them, when no last status was written."""
        records = {node["name"]: NodeRecord(name=node["name"], host=self.info.host) for node in self.plan()["nodes"]}
        for event in self.events():
            if event["event"] == "exit":
                exit_record = ExitRecord.from_dict(event)
                records[exit_record.node] = dataclasses.replace(records[exit_record.node], exit=exit_record)
            elif event["event"] == "node":
                name, state = event["name"], NodeState(event["state"])
                begun = event["time"] if state is NodeState.STARTING else records[name].started_at
                records[name] = dataclasses.replace(
                    records[name],
                    state=state,
                    pid=event["pid"] or records[name].pid,
                    attempt=event["attempt"],
                    will_restart=event["will_restart"],
                    removed=event.get("removed", ""),
                    started_at=begun,
                )
        ended_at = self.ended_at if dead else None
        return [_died_with_launcher(node, ended_at) if dead else node for node in records.values()]


def _last_written(folder: Path) -> float | None:
    """When the run last left a trace: an event, a line, a number, a checkpoint; or its zygote saw its launcher go."""
    traces = (EVENTS_FILE, f"{MERGED_LOG}*", METRICS_FILE, "zygote-*.log", f"{CHECKPOINTS}/*/*")
    found = [path for trace in traces for path in folder.glob(trace)]
    return max((path.lstat().st_mtime for path in found), default=None)


def _died_with_launcher(node: NodeRecord, when: float | None) -> NodeRecord:
    if node.state is NodeState.PENDING or node.gone:
        return node
    lasted = max(0.0, when - node.started_at) if when and node.started_at else 0.0
    end = ExitRecord(
        node=node.name,
        attempt=node.attempt,
        state=NodeState.KILLED,
        cause="was killed when its launcher died",
        host=node.host,
        pid=node.pid,
        uptime_s=round(lasted, 3),
    )
    return dataclasses.replace(node, state=NodeState.KILLED, will_restart=False, exit=end)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(ownership.read_own(path))
    except (OSError, ValueError):  # NotOwned is one
        return None
    return data if isinstance(data, dict) else None
