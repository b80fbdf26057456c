"""Slurm's commands, and what they print."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kourou import errors
from kourou.ownership import replace_own
from kourou.runtime.launchers.engines.base import Submission

_TIMEOUT_S = 60.0
_BEHIND = {"", "PENDING", "RUNNING", "REQUEUED", "RESIZING"}  # records lag behind by seconds
_MOST_IDS = 200  # on one command line
_OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}
_WAITING = {
    *("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SUSPENDED", "STOPPED", "CONFIGURING"),
    "SPECIAL_EXIT",
}
_TIME_LEFT = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")
_KEPT = ("SLURM_CONF", "SLURM_JWT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmState:
    """What Slurm says of a job."""

    state: str
    """PENDING, RUNNING, COMPLETING, NODE_FAIL …"""
    reason: str = ""

    @property
    def waits(self) -> bool:
        """It has no hosts now; and will have some, if nobody minds."""
        return self.state in _WAITING

    @property
    def over(self) -> bool:
        """It will not run any more."""
        return self.state in _OVER


class _Terminated(errors.LaunchError):
    """A command was ended by SIGTERM."""


def call(command: Sequence[str]) -> str:
    """What one of Slurm's commands prints.

    Raises:
        LaunchError: it is not there, or fails; with its own words.
    """
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise errors.LaunchError(f"there is no {command[0]} here: Slurm's commands have to be on PATH") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.LaunchError(f"{command[0]} could not be called: {error}") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        kind = _Terminated if done.returncode == -signal.SIGTERM else errors.LaunchError
        raise kind(f"{command[0]} exited with {done.returncode}: {said}")
    return done.stdout


def submit(submission: Submission) -> str:
    """Write a script, and call what submits it; the job's id.

    Raises:
        LaunchError: it refuses; the message is what it said.
    """
    replace_own(submission.path, submission.script.encode())  # an earlier one of the same run
    printed = call(submission.command)
    job = printed.rstrip().rpartition("\n")[2].partition(";")[0]  # id;cluster where there are several
    if not job.isdigit():
        raise errors.LaunchError(f"sbatch printed {printed!r} where a job's id is expected")
    return job


def own_job() -> str:
    """The job that this process runs in, as squeue has it: ``12``, or ``12_3`` for an array's element; "": none."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", "")


def own_restarts() -> int:
    """How often that was put back into the queue."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def own_time_left() -> float | None:
    """Seconds until that reaches its time limit; None: it has none, or Slurm does not say."""
    try:
        printed = call(["squeue", "-h", "-j", own_job(), "-o", "%L"])
    except errors.LaunchError:
        return None
    if (found := _TIME_LEFT.match(printed.strip())) is None:  # UNLIMITED
        return None
    days, hours, minutes, seconds = (int(each or 0) for each in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def pending_reason(job: str) -> str:
    """Why a job does not run; "" where it does, or Slurm does not say."""
    try:
        components = call(["squeue", "-h", "-j", job, "-o", "%T|%r"]).split("\n")
    except errors.LaunchError:
        return ""
    waiting = (reason for state, _, reason in (line.partition("|") for line in components) if state == "PENDING")
    return next((reason for reason in waiting if reason != "None"), "")


def host_names(*nodes: str) -> list[str]:
    """The hosts that node lists mean, in the order in which a step numbers them; without one, those of this job.

    Raises:
        LaunchError: scontrol fails.
    """
    return call(["scontrol", "show", "hostnames", *nodes]).split()


def job_nodes(job: str) -> list[str]:
    """The node list of each component of a job that runs; most jobs have one.

    Raises:
        LaunchError: Slurm does not know it, or it has no hosts.
    """
    found = re.findall(r" NodeList=(\S+)", call(["scontrol", "-o", "show", "job", job]))
    if not found or "(null)" in found:
        raise errors.LaunchError(f"SLURM_JOB_ID is set, but job {job} has no hosts; unset it to get new ones")
    return found


def quoted(path: Path | str) -> str:
    """A path as it is written in what Slurm takes for a pattern of names."""
    return str(path).replace("%", "%%")


def queued_jobs() -> dict[str, SlurmState]:
    """This user's jobs that have not left the queue: id, or id_index of an array's element → what Slurm says.

    Raises:
        LaunchError: squeue fails.
    """
    printed = call(["squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i|%T|%r"])
    jobs = {}
    for line in printed.splitlines():
        job, _, rest = line.partition("|")
        state, _, reason = rest.partition("|")
        jobs[job] = SlurmState(state=state, reason=reason)
    return jobs


def final_state(job: str) -> SlurmState | None:
    """What became of a job that left the queue: from accounting if there is any, else while slurmctld remembers it."""
    try:
        printed = call(["sacct", "-n", "-P", "-X", "-D", "-j", job, "-o", "State"])
        states = printed.split("\n")
        last = next((state.split()[0] for state in reversed(states) if state.strip()), "")  # "CANCELLED by 1000"
        if last not in _BEHIND:
            return SlurmState(state=last)
    except errors.LaunchError:
        pass  # many clusters have no accounting
    try:
        return known_job(job)
    except errors.LaunchError:
        return None


def known_job(job: str) -> SlurmState | None:
    """What slurmctld says of a job, of the last component; None: it does not know it any more.

    Raises:
        LaunchError: it cannot be asked.
    """
    try:
        printed = call(["scontrol", "-o", "show", "job", job])
    except errors.LaunchError as error:
        if "nvalid job id" in str(error):
            return None
        raise
    found = re.findall(r"\bJobState=(\S+) Reason=(\S+)", printed)
    return SlurmState(state=found[-1][0], reason=found[-1][1]) if found else None


def cancel_jobs(jobs: Sequence[str]) -> None:
    """Call ``scancel``; jobs that have ended are no error.

    Raises:
        LaunchError: it fails.
    """
    for start in range(0, len(jobs), _MOST_IDS):
        call(["scancel", "--quiet", *jobs[start : start + _MOST_IDS]])


def requeue(job: str) -> None:
    """Put a running job back into the queue, under the same id.

    Slurm ends all that runs in it then; of this process's own job, the very command, perhaps before that can say so.

    Raises:
        LaunchError: Slurm refuses.
    """
    with contextlib.suppress(_Terminated):
        call(["scontrol", "requeue", job])


def release(job: str) -> None:
    """Let a requeued job begin soon, and not two minutes later; a cluster that does not allow it is left alone.

    Not at once: in the second in which it was requeued, a node takes the job's credential for revoked.
    """
    try:
        call(["scontrol", "update", f"JobId={job}", "StartTime=now+3"])
    except errors.LaunchError:
        return


def max_array_size() -> int:
    """How many elements an array may have.

    Raises:
        LaunchError: scontrol fails.
    """
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", call(["scontrol", "show", "config"]))
    return max(1, int(found[1])) if found else 1


def outer_environment() -> dict[str, str]:
    """This process's environment without what Slurm says of the job around it: commands would take it for options."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not name.startswith(("SLURM_", "SRUN_", "SALLOC_", "SBATCH_"))
    }
