"""Kubernetes: the pods of a JobSet are the hosts, and each starts its agent by itself.

The launcher is a pod of that JobSet (``lp.submit``), or a process that pods can reach (``lp.launch``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from kourou import errors
from kourou.runtime.files.run_folder import ORDER_FILE
from kourou.runtime.host_agent import pod
from kourou.runtime.launchers.engines.base import AgentCommand, Engine, JobState
from kourou.runtime.launchers.engines.kubectl import JobSetJob
from kourou.runtime.launchers.engines.kubernetes_batch import apply, as_job_set
from kourou.runtime.launchers.engines.kubernetes_manifests import PORT
from kourou.runtime.model.engine_options import Kubernetes
from kourou.runtime.model.engines import Shape


def engine(options: Kubernetes, *, name: str, folder: Path) -> Engine:
    """The engine of this process: a launcher in a pod has its hosts around it, another one asks for them."""
    del name
    return PodsAround() if pod.RUN_ID in os.environ else KubernetesEngine(options, folder=folder)


class PodsAround(Engine):
    """The one in the launcher's pod, which asks nobody: the hosts' pods are of the same JobSet."""

    loopback, port, patient = False, PORT, True

    def allocate(self, shape: Shape) -> None:
        """See :class:`Engine`."""

    def granted(self, timeout_s: float) -> bool:
        del timeout_s
        return True

    def why_pending(self) -> str:
        return "pods that are hosts; kubectl get pods, and kourou status, tell why they do not run"

    def start_agents(self, command: AgentCommand, places: Sequence[int]) -> None:
        """See :class:`Engine`."""

    def words(self) -> str:
        return ""

    def release(self) -> None:
        """See :class:`Engine`."""


class KubernetesEngine(Engine):
    """The one outside of the JobSet. The pods end with their launcher, and the JobSet with them."""

    loopback, port, patient = False, 0, True

    def __init__(self, options: Kubernetes, *, folder: Path) -> None:
        self._options = options
        self._run = folder.parent
        self._job: JobSetJob | None = None

    def allocate(self, shape: Shape) -> None:
        job_set = as_job_set(self._options, shape, self._run.name)
        self._job = JobSetJob.of(job_set.name, job_set.options)
        apply(job_set, {pod.ORDER: (self._run / ORDER_FILE).read_text("ascii")})

    def granted(self, timeout_s: float) -> bool:
        del timeout_s
        assert self._job is not None  # noqa: S101 - it was asked
        state = _look(self._job)
        if state.state == "gone":
            raise errors.LaunchError(
                f"JobSet {self._job.words} ended before its pods had called ({state.reason}). Can they reach this "
                "host? lp.submit and kourou submit run the launcher in a pod of its own"
            )
        return True

    def why_pending(self) -> str:
        return "" if self._job is None else _look(self._job).reason

    def start_agents(self, command: AgentCommand, places: Sequence[int]) -> None:
        """See :class:`Engine`."""

    def words(self) -> str:
        return self.why_pending()

    def release(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            with contextlib.suppress(errors.LaunchError):  # it goes when its pods have ended
                job.delete()


def _look(job: JobSetJob) -> JobState:
    """What has become of a JobSet. A cluster that cannot be asked at present has not refused it."""
    try:
        return job.look()
    except errors.LaunchError as error:
        return JobState(state="pending", reason=f"an answer of the cluster: {error}")
