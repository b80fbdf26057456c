"""Programs of a user who may have few processes and threads: the error names the limit, and nothing hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.needs("namespaces"), pytest.mark.usefixtures("no_leaks")]

SOMEBODY = 50_000 + os.getpid() % 10_000  # who has no other processes: all of a user's count
MAY_READ_ALL = "+dac_override,+dac_read_search"  # of this Python, wherever it is installed

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NPROC, (int(sys.argv[1]),) * 2)
import kourou as lp

class Adder:
    def add(self, number):
        return number + 1

def call(adder):
    lp.stop(str(adder.add(1)))

def program(launch_type):
    made = lp.Program("limited")
    adder = made.add_node(lp.CourierNode(Adder), label="adder")
    with made.group("caller"):
        for _ in range(4):
            made.add_node(lp.PyNode(call, adder))
    lp.launch(made, launch_type).wait()

def ranks(_):
    from kourou.spmd import Launcher
    Launcher(["localhost"], workers_per_host=2, backend=None).run(len, "ab")

def sweep(folder):
    from kourou.experiments import RunSpec, run_sweep
    command = ("sleep", "0")
    runs = [RunSpec(name=n, folder=f"{folder}/{n}", command=command, params={"n": n}) for n in "abcdefgh"]
    outcome = run_sweep(runs, f"{folder}/sweep")
    raise lp.errors.LaunchError("; ".join(record.cause for record in outcome.failed) or "none has failed")

try:
    globals()[sys.argv[2]](sys.argv[3])
except lp.errors.KourouError as error:
    print("told:", type(error).__name__, error)
"""


@pytest.fixture
def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs one of the functions above as a user who may have so many processes and threads: what it printed."""
    script, runs = tmp_path / "script.py", tmp_path / "runs"
    script.write_text(LIMITED)
    for folder in (runs, tmp_path):
        folder.mkdir(exist_ok=True)
        os.chown(folder, SOMEBODY, SOMEBODY)
    for name in ("KOUROU_RUNS_DIR", "HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(runs))

    def run(most: int, *words: str) -> str:
        user = ["--reuid", str(SOMEBODY), "--regid", str(SOMEBODY), "--clear-groups"]
        may = ["--inh-caps", MAY_READ_ALL, "--ambient-caps", MAY_READ_ALL]
        command = ["setpriv", *user, *may, sys.executable, str(script), str(most), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize(
    ("launch_type", "most"),
    [("local_mt", 1), ("local_mt", 5), *(("local_mp", most) for most in (1, 5, 7, 10))],
)
def test_a_program_that_gets_too_few_threads_fails_with_the_limit(
    limited: Callable[..., str], launch_type: str, most: int
) -> None:
    # Given a program of five nodes, each of which has threads
    # When its user may have fewer
    told = limited(most, "program", launch_type)
    # Then its error says so, whatever it was that could not be started
    assert "told: LaunchError cannot start the thread" in told or "told: ProgramFailed" in told, told
    assert f"this user may have {most} processes and threads at once" in told
    assert "fault of kourou" not in told


@pytest.mark.parametrize(("what", "most"), [("ranks", 1), ("ranks", 3), ("sweep", 2), ("sweep", 4)])
def test_so_do_ranks_and_sweeps(limited: Callable[..., str], tmp_path: Path, what: str, most: int) -> None:
    told = limited(most, what, str(tmp_path / "runs"))
    assert f"this user may have {most} processes and threads at once" in told.partition("told: ")[2], told
