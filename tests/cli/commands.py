"""Running the command line: within this process, and as a process of its own."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from kourou.cli.app import app
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.run_search import find_runs
from polling import WAIT_S, until

PROGRAMS = Path(__file__).with_name("programs.py")


@dataclasses.dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def kourou(*words: str) -> Outcome:
    """A command in this process, as wide as a terminal of 100 columns."""
    path = list(sys.path)
    try:
        result = CliRunner().invoke(app, list(words), env={"COLUMNS": "100"})
    finally:
        sys.path[:] = path
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def start(*words: str, **options: Any) -> subprocess.Popen[str]:
    """A command as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "kourou.cli", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@dataclasses.dataclass(frozen=True)
class LiveRun:
    """A program that ``kourou run`` runs in a process of its own."""

    launcher: subprocess.Popen[str]
    runs_dir: Path
    found: FoundRun

    @classmethod
    def start(cls, runs_dir: Path, function: str = "make_endless", *options: str) -> LiveRun:
        """Launch, and wait until all nodes are ready."""
        launcher = start("run", f"{PROGRAMS}:{function}", "--run-dir", str(runs_dir), *options)
        try:
            (found,) = until(lambda: find_runs(runs_dir), WAIT_S, "the run's folder")
            until(lambda: _all_ready(found), WAIT_S, "the nodes")
        except BaseException:
            launcher.kill()
            print(launcher.communicate())
            raise
        return cls(launcher, runs_dir, found)

    def kourou(self, *words: str) -> Outcome:
        """A command about runs, looking where this run is."""
        head, *rest = words
        return kourou(head, "--runs-dir", str(self.runs_dir), *rest)

    def end(self) -> None:
        """Ctrl-C, and the end of the process."""
        if self.launcher.poll() is None:
            self.launcher.send_signal(signal.SIGINT)
        self.launcher.wait(timeout=WAIT_S)
        for pipe in (self.launcher.stdout, self.launcher.stderr):
            assert pipe is not None
            pipe.close()


def _all_ready(found: FoundRun) -> bool:
    states = [str(node.state) for node in found.status().nodes]
    return bool(states) and all(state == "READY" for state in states)
