"""Batch jobs of Kubernetes: a JobSet whose launcher is a pod of its own. Its folder is there, and not here."""

from __future__ import annotations

import dataclasses
import os
import pickle
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kourou import errors
from kourou.runtime.host_agent import pod
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.launchers.engines import kubernetes_tree
from kourou.runtime.launchers.engines.base import BatchSystem, JobState, Submission
from kourou.runtime.launchers.engines.kubectl import APPLY, JobSetJob
from kourou.runtime.launchers.engines.kubernetes_manifests import PORT, JobSetPlan
from kourou.runtime.launchers.engines.yaml_text import to_yaml
from kourou.runtime.model.engine_options import Kubernetes
from kourou.runtime.model.engines import Shape
from kourou.runtime.plan.plan import LaunchPlan
from kourou.runtime.stopping.timeline import StopTimeline
from kourou.working_folder import working_folder

_TOKEN_BYTES = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Travelling:
    """What the launcher in a pod is given."""

    plan: LaunchPlan
    cwd: str
    """The folder that is the working folder there."""
    interpreter: str
    """Likewise."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KubernetesSubmission(Submission):
    """What is handed over; ``script`` is it without secrets and bytes."""

    job_set: JobSetPlan


def as_job_set(options: Kubernetes, shape: Shape, run_id: str, plan: LaunchPlan | None = None) -> JobSetPlan:
    """The JobSet of a run.

    Args:
        options: what the user said.
        shape: what the program needs.
        run_id: the run's.
        plan: what its launcher brings to life; None: that one is here, and the JobSet has none.

    Raises:
        PlanError: the folder that is to travel cannot.
    """
    tree = None if options.tree is None else Path(options.tree).absolute()
    cwd = tree if tree is not None and working_folder().is_relative_to(tree) else working_folder()
    travelling = plan and Travelling(plan=plan, cwd=str(cwd), interpreter=sys.executable)
    return JobSetPlan(
        options=options,
        run_id=run_id,
        shape=shape,
        stop_s=(plan.stop if plan else StopTimeline()).total_s,
        tree=None if tree is None else kubernetes_tree.pack(tree),
        path=() if tree is None else kubernetes_tree.import_folders(tree),
        plan=pickle.dumps(travelling) if travelling else None,
    )


def apply(job_set: JobSetPlan, files: Mapping[str, str]) -> JobSetJob:
    """Hand all of it over: first the JobSet, then what belongs to it, so that nothing is left without an owner.

    Raises:
        LaunchError: the cluster refuses, and nothing is left.
    """
    job = JobSetJob.of(job_set.name, job_set.options)
    (made,) = job.apply([job_set.job_set()])
    try:
        job.apply(job_set.owned(made["metadata"]["uid"], files))
    except BaseException:
        job.delete()
        raise
    return job


class KubernetesBatch(BatchSystem):
    """JobSets that hold their launcher, too."""

    shares_folder = False

    def plan(self, plan: LaunchPlan, *, folder: Path, command: Sequence[str]) -> KubernetesSubmission:
        del command  # it is another one in the image
        options, shape = plan.engine, plan.shape
        assert isinstance(options, Kubernetes)  # noqa: S101 - it was compiled for it
        assert shape is not None  # noqa: S101 - likewise
        job_set = as_job_set(options, shape, folder.name, plan)
        return KubernetesSubmission(
            script=to_yaml(job_set.shown()),
            path=folder / "job.yaml",
            command=tuple(JobSetJob.of(job_set.name, job_set.options).command(*APPLY)),
            job_set=job_set,
        )

    def submit(self, submission: Submission) -> str:
        assert isinstance(submission, KubernetesSubmission)  # noqa: S101 - made above
        submission.path.write_text(submission.script, encoding="utf-8")
        job_set, options = submission.job_set, submission.job_set.options
        authority = Authority()
        order = DialOrder(
            addresses=((job_set.address, PORT),),
            authority=authority.certificate.decode("ascii"),
            token=secrets.token_hex(_TOKEN_BYTES),
            silence_s=options.lost_after_s,
            run_id=submission.path.parent.name,
        )
        files = {pod.ORDER: order.to_json(), pod.AUTHORITY: authority.to_pem().decode("ascii")}
        return apply(job_set, files).words

    def look(self, job: str) -> JobState:
        return JobSetJob(job).look()

    def cancel(self, job: str) -> None:
        JobSetJob(job).delete()

    def command_there(self, job: str, words: Sequence[str], *, terminal: bool) -> list[str]:
        return JobSetJob(job).command_in_launcher(["-m", "kourou.cli", *words], terminal=terminal)

    def logs_there(self, job: str) -> list[str]:
        return JobSetJob(job).logs_command()

    def own_job(self) -> str:
        """None that others could ask for: in its pod, a launcher is found by its folder."""
        return ""

    def own_restarts(self) -> int:
        """How often this launcher's pod failed, or was evicted."""
        return sum(int(os.environ.get(name) or 0) for name in (pod.COUNTED, pod.IGNORED))

    def own_time_left(self) -> float | None:
        return None

    def requeue(self, job: str) -> None:
        raise errors.LaunchError(f"JobSet {job} is not put back: Kubernetes starts pods again by itself")


BATCH = KubernetesBatch()
