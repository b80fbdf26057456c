"""Every example runs from the repository's root, as threads and as processes, and says what it should."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from kourou.runtime.metrics.reading import read_config, read_metrics
from polling import complaints

pytestmark = [pytest.mark.usefixtures("no_leaks")]

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 110.0  # alone each takes a second or, where something is learnt, five; ten times that on a busy machine
LAUNCH_TYPES = ["local_mt", "local_mp"]


def run_script(*arguments: str) -> str:
    """What the example prints; it has to end by itself, with exit code 0 and nothing to complain about."""
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert complaints(finished.stderr) == []
    return finished.stdout


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_hello_world_greets_whom_it_was_told_to(launch_type: str) -> None:
    output = run_script("examples/hello_world/main.py", "--launch-type", launch_type)

    assert output.splitlines() == ["[visitor/0] Hello, world!", "[visitor/0] Hello, Kourou!"]


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_consumer_adds_up_what_the_producers_found(launch_type: str) -> None:
    output = run_script("examples/consumer_producers/main.py", "--launch-type", launch_type)

    assert output.splitlines() == ["[consumer/0] There are 6,057 primes below 60,000."]


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_population_learns_by_rates_that_none_of_the_first_had(launch_type: str) -> None:
    rounds = run_script("examples/pbt/main.py", "--launch-type", launch_type).splitlines()

    found = [re.fullmatch(r".* Round \d: member/(\d+) errs by (.*), with a rate of (.*)\.", line) for line in rounds]
    errors = [float(match[2]) for match in found if match]
    last = found[-1]
    assert last is not None
    assert len(errors) == 8
    assert errors[-1] < 0.02 < errors[0]
    assert int(last[1]) >= 6
    assert float(last[3]) > 0.01


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_launcher_waits_for_the_workers_only(launch_type: str) -> None:
    output = run_script("examples/program_wait/main.py", "--launch-type", launch_type)

    assert output.splitlines() == [
        "The workers have finished, and the balance is 1,060.",
        "Has the idler ended? False",
        "Now the idler is FINISHED.",
    ]


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_nodes_that_know_each_other_can_be_wired_in_two_ways(launch_type: str) -> None:
    output = run_script("examples/mutual_nodes/main.py", "--launch-type", launch_type)

    assert output.splitlines() == [
        "[asker/0] With handle_to: 4 is even, 7 is odd.",
        "[asker/0] With configure: 4 is even, 7 is odd.",
    ]


@pytest.mark.parametrize(
    ("example", "target"),
    [
        ("dqn", 30),
        pytest.param("apex_dqn", 40, marks=pytest.mark.long),
        pytest.param("ppo_queue", 100, marks=pytest.mark.long),
    ],
)
def test_cartpole_is_learnt_and_the_learning_curve_is_left(
    tmp_path: Path, runs_dir: Path, example: str, target: int
) -> None:
    module, folder = f"examples.{example}.main", str(tmp_path / "curve")
    output = run_script("-m", module, "--target", str(target), "--max-seconds", "100", "--out", folder)

    picture = tmp_path / "curve" / "learning_curve.png"
    assert f"The learning curve is in {picture}" in output
    assert re.search(r"\d s \| [\d,]+ steps \| .* \| mean return [\d.]+\n", output)
    width, height = png_size(picture)
    assert width >= 1_000
    assert height >= 600
    assert picture.stat().st_size > 20_000  # an empty drawing is smaller
    (run_dir,) = runs_dir.iterdir()
    curve = [row for row in read_metrics(run_dir) if row["node"] == "evaluator/0"]
    window = read_config(run_dir)["window"]
    ends = range(window, len(curve) + 1)
    assert max(sum(row["mean_return"] for row in curve[end - window : end]) / window for end in ends) >= target
    assert [row["step"] for row in curve] == sorted(row["step"] for row in curve)


def test_dqn_says_so_when_its_target_is_out_of_reach(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "examples.dqn.main", "--max-seconds", "1", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert finished.returncode == 1
    assert "error: the mean return of 3 evaluations in a row did not reach 475 within 1 s" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_dqn_ends_at_ctrl_c() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.dqn.main"],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        assert any(" steps | " in line for line in process.stdout)  # it is under way

        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 130
    # On a busy machine the learner may still be importing torch, and the launcher says whom it waits for.
    assert [line for line in complaints.splitlines() if not line.startswith("kourou: waiting up to")] == []


def png_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the header of a PNG."""
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert header[12:16] == b"IHDR"
    width, height = struct.unpack(">II", header[16:24])
    return width, height
