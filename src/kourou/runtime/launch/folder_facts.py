"""What other shells find in a run's folder: run.json, plan.json, events.jsonl; and status.json once it has ended."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable

from kourou import errors
from kourou.runtime.control.coordinator import Coordinator
from kourou.runtime.files.run_folder import PLAN_FILE, RunFolder
from kourou.runtime.files.run_info import INFO_FILE, RunInfo
from kourou.runtime.model.records import NodeRecord
from kourou.runtime.model.status import STATUS_FILE, RunState, RunStatus
from kourou.runtime.plan.plan import LaunchPlan
from kourou.runtime.stopping.timeline import is_interrupt

_STATUS_BYTES = 1500  # of status.json for each node, and for the run


class FolderFacts:
    """Those of one run.

    Args:
        plan: what runs.
        folder: the run's.
        coordinator: knows the nodes, and why the run stops.
        has_failed: whether a node's failure ended it.
        metrics_dir: where the metrics are.
        job: of the engine, where this launcher runs in one.
        incarnation: counts the run's launchers.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        folder: RunFolder,
        coordinator: Coordinator,
        *,
        has_failed: Callable[[], bool],
        metrics_dir: str,
        job: str,
        incarnation: int,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._coordinator = coordinator
        self._has_failed = has_failed
        self._metrics_dir = metrics_dir
        self._job = job
        self._incarnation = incarnation
        self._started_at = time.time()
        self._info: RunInfo  # what run.json says
        self.waits_for = ""
        """What an engine says of hosts that are not there."""

    def write(self, address: str) -> None:
        """The run begins, with its coordinator at this address."""
        self._folder.write_json(PLAN_FILE, self._plan.to_dict())
        self._info = RunInfo.of_this_process(
            run_id=self._folder.run_id,
            program=self._plan.program,
            launch_type=str(self._plan.launch_type),
            terminal=self._plan.terminal,
            nodes=len(self._plan.nodes),
            coordinator=address,
            stop_s=self._plan.stop.total_s,
            started_at=self._started_at,
            metrics_dir=self._metrics_dir,
            engine=self._plan.engine.launch_type if self._plan.engine is not None and self._job else "",
            job=self._job,
            incarnation=self._incarnation,
        )
        self._folder.write_json(INFO_FILE, self._info.to_dict())
        self.reserve(len(self._plan.nodes))

    def reserve(self, nodes: int) -> None:
        """Take room for the status of so many nodes: the disk may be full when the run ends.

        Raises:
            LaunchError: there is none.
        """
        self._folder.reserve(STATUS_FILE, _STATUS_BYTES * (1 + nodes))

    def note_nodes(self, nodes: int) -> None:
        """There are so many now."""
        self._info = dataclasses.replace(self._info, nodes=nodes)
        self._folder.write_json(INFO_FILE, self._info.to_dict())

    def note_record(self, record: NodeRecord) -> None:
        """A node's record is another one now."""
        self._folder.event(
            "node",
            name=record.name,
            state=str(record.state),
            pid=record.pid,
            attempt=record.attempt,
            will_restart=record.will_restart,
            **({"removed": record.removed} if record.removed else {}),
        )

    def write_status(self) -> None:
        """The run has ended."""
        status = self.status(ended=True)
        for told in (status, status.without_details()):  # for which room was reserved, should the disk be full
            with contextlib.suppress(errors.LaunchError):
                self._folder.write_json(STATUS_FILE, told.to_dict())
                return

    def status(self, *, ended: bool = False) -> RunStatus:
        """The run as it is now."""
        reason = self._coordinator.stop_reason
        if not ended:
            state = RunState.RUNNING if reason is None else RunState.STOPPING
        elif is_interrupt(reason):
            state = RunState.INTERRUPTED
        else:
            state = RunState.FAILED if self._has_failed() else RunState.FINISHED
        return RunStatus(
            run_id=self._folder.run_id,
            program=self._plan.program,
            launch_type=str(self._plan.launch_type),
            state=state,
            stop_reason=reason or "",
            waits_for="" if ended else self.waits_for,
            started_at=self._started_at,
            ended_at=time.time() if ended else None,
            nodes=tuple(self._coordinator.directory.all()),
        )
