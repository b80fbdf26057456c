"""A job's script as a child of the batch process; with a real Slurm around it: see test_slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kourou.experiments import RunSpec, SlurmOptions
from kourou.experiments.journal.requests import ask, take_requests
from kourou.experiments.slurm.script import submissions
from kourou.experiments.sweep.prepared import prepare
from polling import until

pytestmark = pytest.mark.usefixtures("no_leaks")

WATCH = """
import pathlib, signal, sys
from kourou.experiments.slurm.template import run_script
from kourou.runtime.stopping.held_signal import HeldSignal

near_limit = HeldSignal(signal.SIGUSR1)
print(run_script(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), near_limit), near_limit.came)
"""
SCRIPT = """#!/usr/bin/env -S bash -u
trap : USR1
echo "of $KOUROU_TEMPLATE_OF" > "$(dirname "$0")/begun"
sh -c 'trap "exit 9" TERM; while ! test -e go; do sleep 0.02; done'
"""


@pytest.mark.parametrize(("number", "said"), [(signal.SIGUSR1, "0 True"), (signal.SIGTERM, "143 False")])
def test_what_slurm_sends_is_passed_on(tmp_path: Path, number: int, said: str) -> None:
    # Given a script that runs, and a request that an earlier attempt has left
    script = tmp_path / "a script"
    script.write_text(SCRIPT)
    ask(tmp_path, "checkpoint")
    job = subprocess.Popen(
        [sys.executable, "-c", WATCH, str(script), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "SLURM_JOB_ID": "12"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with job:
        until((tmp_path / "begun").exists, 20, "the script to begin")
        assert (tmp_path / "begun").read_text() == "of 12\n"
        assert take_requests(tmp_path) == []
        # When
        job.send_signal(number)
        if number == signal.SIGUSR1:
            (request,) = until(lambda: take_requests(tmp_path), 20, "the request")
            assert request.kind == "checkpoint"
            (tmp_path / "go").touch()
        # Then
        assert job.communicate(timeout=20)[0].strip() == said


def test_where_the_launchers_python_is_missing_the_templates_watches_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a container without the launcher's Python, and paths that a shell would change
    monkeypatch.setattr("kourou.experiments.slurm.script.sys.executable", "/nowhere/bin/python")
    top = tmp_path / "a $HOME"
    (top / "bin").mkdir(parents=True)
    (top / "bin" / "python").write_text('#!/bin/sh\nprintf "%s|" "$@"')
    (top / "bin" / "python").chmod(0o755)
    template = top / "template.sh"
    template.write_text("#!/bin/bash\n#SBATCH --comment=x\n\n$CMD $$ $PATH\n")
    (run,) = prepare([RunSpec(name="r", folder=str(top / "r"), command=("true",))])
    # When
    (made,) = submissions([run], "s", top / "m.pkl", SlurmOptions(template=template), largest_array=1)
    made.path.write_text(made.script)
    done = subprocess.run(
        ["sh", str(made.path), "run"],
        env={"PATH": f"{top / 'bin'}:/bin:/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    # Then
    assert done.stdout == f"-m|kourou.experiments.slurm.job|{top / 'm.pkl'}|0|"
    lines = made.script.splitlines()
    assert lines[:2] == ["#!/bin/bash", "#SBATCH --comment=x"]
    assert lines[-1] == f"sh '{made.path}' run $ $PATH"
