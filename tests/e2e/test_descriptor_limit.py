"""Launchers that may have few descriptors: the error names the limit; up to the hard one it is raised."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("no_leaks")

LIMITED = """
import resource, sys
import kourou as lp

def limit():
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))

def program(_):
    made = lp.Program("limited")
    for _ in range(4):
        made.add_node(lp.PyNode(print), label="node")
    limit()
    lp.launch(made, "local_mp").wait()

def ranks(_):
    from kourou.spmd import Launcher
    launcher = Launcher(["localhost"], workers_per_host=4, backend=None)
    limit()
    launcher.run(len, "ab")

def sweep(folder):
    from kourou.experiments import RunSpec, Share, run_sweep
    runs = [RunSpec(name=str(n), folder=f"{folder}/{n}", command=("true",), params={"n": n}) for n in range(16)]
    limit()
    outcome = run_sweep(runs, f"{folder}/sweep", share=Share(parallel=16))
    print(*(f"{record.state} {record.cause}" for record in outcome.records), sep="\\n")

try:
    globals()[sys.argv[3]](sys.argv[4])
except lp.errors.LaunchError as error:
    print("told:", error)
"""


def limited(folder: Path, soft: int, hard: int, what: str) -> str:
    """What one of the functions above printed under these limits."""
    script = folder / "script.py"
    script.write_text(LIMITED)
    command = [sys.executable, str(script), str(soft), str(hard), what, str(folder)]
    env = {**os.environ, "KOUROU_LOG_DIR": str(folder / "logs")}
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=True, env=env).stdout


@pytest.mark.parametrize(("what", "most"), [("program", 6), ("ranks", 5), ("ranks", 14), ("sweep", 8)])
def test_too_few_descriptors_are_told_with_the_limit(tmp_path: Path, what: str, most: int) -> None:
    told = limited(tmp_path, most, most, what)
    assert told.startswith("told: cannot "), told
    assert f"this process may have {most} at once, and `ulimit -n` allows up to {most}" in told


def test_the_soft_limit_is_raised_for_as_many_runs_as_there_are_at_once(tmp_path: Path) -> None:
    # Given a sweep of more runs at once than the soft limit allows, and a hard one that is high enough
    # When it is run, then all of them are
    assert limited(tmp_path, 40, 400, "sweep").split() == ["SUCCEEDED", "succeeded"] * 16
