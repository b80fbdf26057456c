"""A job whose script is the user's own: what Slurm sends reaches the run, whatever shells or containers lie between.

Slurm signals the batch process alone, and a shell that waits for a command dies of it, or hears of it too late. So the
batch process is this one, and the user's script its child; that it is time to save work is told through the run's
folder, which containers see as well.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path
from types import FrameType

from kourou.experiments.journal.requests import ask, take_requests
from kourou.runtime.interpreter.signal_handlers import SignalHandlers
from kourou.runtime.process import process_table

__all__ = ["INSIDE_VARIABLE", "run_script"]

_SHELL_SIGNALS = 128  # what shells add to a signal's number

INSIDE_VARIABLE = "KOUROU_TEMPLATE_OF"
"""Holds the id of the job whose script runs: one that the script submits is another's, though it inherits this."""


def run_script(script: Path, run_folder: Path) -> tuple[int, bool]:
    """Run a job's script; its exit code, and whether Slurm has told meanwhile that the time limit is near."""
    take_requests(run_folder)  # what is there is of an earlier attempt
    env = {**os.environ, INSIDE_VARIABLE: os.environ["SLURM_JOB_ID"]}
    told: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        told.append(number)
        if number == signal.SIGUSR1:
            ask(run_folder, "checkpoint")
        else:
            process_table.signal_all(process_table.ProcessTable().below(os.getpid()), number)

    handlers = SignalHandlers()
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        handlers.set(number, pass_on)
    try:
        code = subprocess.Popen([*_shell_of(script), str(script)], env=env).wait()
    finally:
        handlers.give_back()
    return (code if code >= 0 else _SHELL_SIGNALS - code), signal.SIGUSR1 in told


def _shell_of(script: Path) -> list[str]:
    first = script.read_text(encoding="utf-8").split("\n", 1)[0]
    return shlex.split(first.removeprefix("#!"))
