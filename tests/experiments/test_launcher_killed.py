"""kill -9 of a sweep's launcher, at any moment: finished runs stay so, lost ones are run again, none twice at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil

from experiments.sweeping import happened
from kourou.experiments.journal.journal import read_records
from optional import pytest
from polling import alive, marked, until

pytestmark = pytest.mark.usefixtures("no_leaks")

LAUNCHER = """
import sys
from pathlib import Path
from experiments.sweeping import shell_run, sweep
top, count, seconds = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
script = f'''exec 9>$KOUROU_RUN_DIR/lock
flock -n 9 || echo $KOUROU_RUN_NAME >> {top}/twice
sleep {seconds}
echo $KOUROU_RUN_ATTEMPT >> $KOUROU_RUN_DIR/ends'''
runs = [shell_run(top, f"r{i}", script, params={"i": i}) for i in range(count)]
print("begins", flush=True)
sys.exit(sweep(top, runs).exit_code)
"""


def kill_and_restart(top: Path, *, runs: int, run_s: float, kills: int, latest_s: float) -> int:
    """Launch the sweep again and again, kill its launcher after a random time, and let the last one finish."""
    random.seed(7)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", LAUNCHER, str(top), str(runs), str(run_s)]
    killed = 0
    while True:
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, start_new_session=True) as process:
            assert process.stdout is not None
            if killed == kills:
                assert process.wait(300) == 0
                return killed
            assert process.stdout.readline() == b"begins\n"
            try:
                code = process.wait(random.uniform(0, latest_s))
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            if code == 0:
                return killed
            killed += 1


def check(top: Path, runs_dir: Path, runs: int) -> None:
    until(lambda: not marked_others(runs_dir), 5, "the end of all processes")
    assert not (top / "twice").exists(), (top / "twice").read_text()
    records = read_records(top / "sweep")
    assert {str(record.state) for record in records.values()} == {"SUCCEEDED"}
    assert len(records) == runs
    # each run ended well once, says the journal
    finished = Counter(run for kind, run in happened(top) if kind == "ended")
    lost = Counter(run for kind, run in happened(top) if kind == "rerun")
    assert all(finished[run] - lost[run] == 1 for run in records)
    # … and in truth once, or once more where the launcher was killed before it could write the end down
    for record in records.values():
        attempts = (Path(record.folder) / "ends").read_text().split()
        assert attempts[-1] == str(record.attempt)
        assert len(set(attempts)) == len(attempts)


def marked_others(runs_dir: Path) -> list:
    return [process for process in marked(runs_dir) if process.pid != os.getpid()]


def test_a_launcher_that_is_killed_a_few_times(tmp_path: Path, runs_dir: Path) -> None:
    killed = kill_and_restart(tmp_path, runs=16, run_s=0.1, kills=5, latest_s=0.7)
    assert killed >= 1
    check(tmp_path, runs_dir, 16)


ESCAPING = """
import sys
from pathlib import Path
from experiments.sweeping import shell_run, sweep
top = Path(sys.argv[1])
script = f'''test -e {top}/begun && exit 0
setsid sleep 61 & echo $! > {top}/pid; touch {top}/begun; wait'''
sys.exit(sweep(top, [shell_run(top, "r", script)]).exit_code)
"""


def test_what_outlived_even_the_zygote_is_ended_before_its_run_is_run_again(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", ESCAPING, str(tmp_path)]
    with subprocess.Popen(command, env=env, start_new_session=True) as process:
        until((tmp_path / "begun").exists, 40, "the run to begin")
        launcher = psutil.Process(process.pid)
        zygote, *_ = launcher.children()
        # given that neither the launcher nor its zygote can clean up
        launcher.suspend()
        zygote.kill()
        launcher.kill()
    left = psutil.Process(int((tmp_path / "pid").read_text()))
    assert alive(left)
    assert subprocess.run(command, env=env, check=False, timeout=30).returncode == 0
    assert not alive(left)
    (record,) = read_records(tmp_path / "sweep").values()
    assert (str(record.state), record.attempt) == ("SUCCEEDED", 2)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_launcher_that_is_killed_at_a_hundred_moments(tmp_path: Path, runs_dir: Path) -> None:
    killed = kill_and_restart(tmp_path, runs=200, run_s=0.3, kills=100, latest_s=0.8)
    assert killed == 100
    check(tmp_path, runs_dir, 200)
