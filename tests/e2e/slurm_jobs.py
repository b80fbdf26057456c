"""Jobs of a test's own Slurm: what is queued, what they said, and that nothing is left of them."""

from __future__ import annotations

import contextlib
import getpass
import subprocess
from collections.abc import Iterator
from pathlib import Path

from polling import until

WITHIN_S = 90.0
TOLD = ("scancel", "--signal=USR1", "--batch")
"""What Slurm does when a job's time limit is near."""


def queue() -> str:
    return subprocess.run(["squeue", "-h"], check=True, capture_output=True, text=True).stdout


def begin_now(job: str) -> None:
    """A requeued job is held for two minutes."""
    command = ["scontrol", "update", f"JobId={job}", "StartTime=now+3"]
    until(lambda: subprocess.run(command, check=False, capture_output=True).returncode == 0, WITHIN_S, "its release")


def reach_the_limit(job: str) -> None:
    """Let a job that was told to save its work 100 s before its limit be told by Slurm, soon, and not once more."""
    limit(job, "2")
    until(lambda: restarts(job) == 1, WITHIN_S, "a job that was put back into the queue")
    limit(job, "UNLIMITED")


def limit(job: str, time: str) -> None:
    subprocess.run(["scontrol", "update", f"JobId={job}", f"TimeLimit={time}"], check=True)


def restarts(job: str) -> int:
    shown = subprocess.run(["scontrol", "show", "job", job], check=True, capture_output=True, text=True).stdout
    return int(shown.partition("Restarts=")[2].split()[0])


@contextlib.contextmanager
def emptied(runs_dir: Path) -> Iterator[None]:
    """When a test has ended, so have its jobs; what their launchers said is printed, for tests that fail."""
    try:
        yield
        until(lambda: not queue(), WITHIN_S, "an empty queue: nothing is left of any allocation")
    finally:
        subprocess.run(["scancel", "--quiet", "--user", getpass.getuser()], check=True)
        for log in sorted(runs_dir.glob("*/launcher.log")):
            print(f"{log.parent.name}:\n{log.read_text('utf-8')}")
