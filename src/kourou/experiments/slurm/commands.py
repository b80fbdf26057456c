"""Slurm's commands, and what they print."""

from __future__ import annotations

import dataclasses
import getpass
import re
import subprocess
from collections.abc import Sequence

from kourou.experiments.failures import SweepError

__all__ = ["JobState", "cancel_jobs", "final_state", "max_array_size", "queued_jobs", "release", "requeue", "submit"]

_TIMEOUT_S = 60.0
_BEHIND = {"", "PENDING", "RUNNING", "REQUEUED", "RESIZING"}  # records lag behind by seconds
_MOST_IDS = 200  # on one command line


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobState:
    """What Slurm says of a job."""

    state: str
    """PENDING, RUNNING, COMPLETING, NODE_FAIL …"""
    reason: str = ""


def submit(arguments: Sequence[str]) -> str:
    """Call ``sbatch`` with these arguments and ``--parsable``; the job's id.

    Raises:
        SweepError: it refuses; the message is what it said.
    """
    printed = _call(["sbatch", "--parsable", *arguments])
    job = printed.rstrip().rpartition("\n")[2].partition(";")[0]  # id;cluster where there are several
    if not job.isdigit():
        raise SweepError(f"sbatch printed {printed!r} where a job's id is expected")
    return job


def queued_jobs() -> dict[str, JobState]:
    """This user's jobs that have not left the queue: id, or id_index of an array's element → what Slurm says.

    Raises:
        SweepError: squeue fails.
    """
    printed = _call(["squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i|%T|%r"])
    jobs = {}
    for line in printed.splitlines():
        job, _, rest = line.partition("|")
        state, _, reason = rest.partition("|")
        jobs[job] = JobState(state=state, reason=reason)
    return jobs


def final_state(job: str) -> JobState | None:
    """What became of a job that left the queue: from accounting if there is any, else while slurmctld remembers it."""
    try:
        printed = _call(["sacct", "-n", "-P", "-X", "-D", "-j", job, "-o", "State"])
        states = printed.split("\n")
        last = next((state.split()[0] for state in reversed(states) if state.strip()), "")  # "CANCELLED by 1000"
        if last not in _BEHIND:
            return JobState(state=last)
    except SweepError:
        pass  # many clusters have no accounting
    try:
        printed = _call(["scontrol", "-o", "show", "job", job])
    except SweepError:
        return None
    found = re.findall(r"\bJobState=(\S+) Reason=(\S+)", printed)
    return JobState(state=found[-1][0], reason=found[-1][1]) if found else None


def cancel_jobs(jobs: Sequence[str]) -> None:
    """Call ``scancel``; jobs that have ended are no error.

    Raises:
        SweepError: it fails.
    """
    for start in range(0, len(jobs), _MOST_IDS):
        _call(["scancel", "--quiet", *jobs[start : start + _MOST_IDS]])


def requeue(job: str) -> None:
    """Put a running job back into the queue, under the same id.

    Raises:
        SweepError: Slurm refuses.
    """
    _call(["scontrol", "requeue", job])


def release(job: str) -> None:
    """Let a requeued job begin soon, and not two minutes later; a cluster that does not allow it is left alone.

    Not at once: in the second in which it was requeued, a node takes the job's credential for revoked.
    """
    try:
        _call(["scontrol", "update", f"JobId={job}", "StartTime=now+3"])
    except SweepError:
        return


def max_array_size() -> int:
    """How many elements an array may have.

    Raises:
        SweepError: scontrol fails.
    """
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _call(["scontrol", "show", "config"]))
    return max(1, int(found[1])) if found else 1


def _call(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise SweepError(f"there is no {command[0]} here: Slurm's commands have to be on PATH") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SweepError(f"{command[0]} could not be called: {error}") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise SweepError(f"{command[0]} exited with {done.returncode}: {said}")
    return done.stdout
