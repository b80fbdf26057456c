"""Runs whose folder is with their launcher, in a cluster: the command is run there."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from kourou import errors
from kourou.cli.terminal.output import tell
from kourou.runtime.model.status import RunState
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.run_search import choose_run

_KILLED = 137  # with its container, whose launcher has ended
_PATIENCE_S = 20.0
_POLL_S = 0.5


def chosen_run(word: str, runs_dir: Path | None) -> FoundRun:
    """The run that a person means, for a command that reads its folder or asks its launcher.

    Where both are elsewhere, this very command is run there, and this process ends as it does.

    Raises:
        NotFound: as :func:`~kourou.runtime.monitoring.run_search.choose_run`.
        Exit: of the command that was run there.
    """
    found = choose_run(word, runs_dir)
    if not found.is_with_launcher:
        return found
    state = found.state
    if state is RunState.RUNNING:
        if found.job_reason:
            tell(f"waiting for {found.job_reason}")
        raise typer.Exit(_run_there(found, _words(sys.argv[1:], word, found.run_id)))
    if state is RunState.ELSEWHERE:
        raise errors.ServerUnavailable(f"it is not known what has become of job {found.info.job}: kubectl cannot tell")
    if state.over and "logs" in sys.argv[1:2]:
        raise typer.Exit(subprocess.call(found.logs_there()))
    return found


def _run_there(found: FoundRun, words: Sequence[str]) -> int:
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    code = subprocess.call(found.command_there(words, terminal=terminal))
    deadline = time.monotonic() + _PATIENCE_S
    while code == _KILLED and time.monotonic() < deadline:
        if (state := found.state).over:
            tell(f"run {found.run_id} has ended: {state}")
            return 0 if state is RunState.FINISHED else 1
        time.sleep(_POLL_S)
    return code


def _words(typed: Sequence[str], word: str, run_id: str) -> list[str]:
    """The command as it was typed, with the run's whole name, and without the folder that runs are in here."""
    words: list[str] = []
    skip = False
    for each in typed:
        if skip or each == "--runs-dir" or each.startswith("--runs-dir="):
            skip = each == "--runs-dir" and not skip
            continue
        words.append(each)
    if word in words:
        words[words.index(word)] = run_id
    else:
        words.append(run_id)  # the newest, which need not be named
    return words
