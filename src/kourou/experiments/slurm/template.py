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
from kourou.runtime.stopping.held_signal import HeldSignal

_SHELL_SIGNALS = 128  # what shells add to a signal's number

INSIDE_VARIABLE = "KOUROU_TEMPLATE_OF"
"""Holds the id of the job whose script runs: one that the script submits is another's, though it inherits this."""


def run_script(script: Path, run_folder: Path, near_limit: HeldSignal) -> int:
    """Run a job's script; its exit code.

    Args:
        script: the user's.
        run_folder: of the run that it runs, which is told through it that the time limit is near.
        near_limit: comes then.
    """
    take_requests(run_folder)  # what is there is of an earlier attempt
    env = {**os.environ, INSIDE_VARIABLE: os.environ["SLURM_JOB_ID"]}

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        process_table.signal_all(process_table.ProcessTable().below(os.getpid()), number)

    near_limit.deliver_to(lambda: ask(run_folder, "checkpoint"))
    handlers = SignalHandlers()
    for number in (signal.SIGTERM, signal.SIGINT):
        handlers.set(number, pass_on)
    try:
        shell = script.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("#!")
        code = subprocess.Popen([*shlex.split(shell), str(script)], env=env).wait()
    finally:
        handlers.give_back()
    return code if code >= 0 else _SHELL_SIGNALS - code
