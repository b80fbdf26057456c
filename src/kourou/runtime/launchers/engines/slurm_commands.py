"""Slurm's commands, and what they print."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from kourou import errors

__all__ = ["call", "cancel", "host_names", "outer_environment", "pending_reason", "submit"]

_TIMEOUT_S = 60.0
_KEPT = ("SLURM_CONF", "SLURM_JWT")


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
        raise errors.LaunchError(f"{command[0]} exited with {done.returncode}: {said}")
    return done.stdout


def submit(arguments: Sequence[str]) -> str:
    """Call ``sbatch --parsable`` with these arguments; the job's id.

    Raises:
        LaunchError: it refuses; the message is what it said.
    """
    printed = call(["sbatch", "--parsable", *arguments])
    job = printed.rstrip().rpartition("\n")[2].partition(";")[0]  # id;cluster where there are several
    if not job.isdigit():
        raise errors.LaunchError(f"sbatch printed {printed!r} where a job's id is expected")
    return job


def pending_reason(job: str) -> str:
    """Why a job does not run; "" where it does, or Slurm does not say."""
    try:
        state, _, reason = call(["squeue", "-h", "-j", job, "-o", "%T|%r"]).strip().partition("|")
    except errors.LaunchError:
        return ""
    return reason if state == "PENDING" and reason != "None" else ""


def host_names(nodes: str) -> list[str]:
    """The hosts that a node list means, in the order in which a step numbers them.

    Raises:
        LaunchError: scontrol fails.
    """
    return call(["scontrol", "show", "hostnames", nodes]).split()


def cancel(job: str) -> None:
    """End a job; one that has ended is no error."""
    try:
        call(["scancel", "--quiet", job])
    except errors.LaunchError:
        return


def outer_environment() -> dict[str, str]:
    """This process's environment without what Slurm says of the job around it: commands would take it for options."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not name.startswith(("SLURM_", "SRUN_", "SALLOC_", "SBATCH_"))
    }
