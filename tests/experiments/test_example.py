"""examples/sweep: a sweep of tiny trainings, run and drawn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("no_leaks")

ROOT = Path(__file__).parents[2]


def test_the_example_trains_and_is_drawn(tmp_path: Path) -> None:
    # the sweep's file as it is, but shorter
    text = (ROOT / "examples" / "sweep" / "sweep.yaml").read_text()
    short = tmp_path / "sweep.yaml"
    short.write_text(
        text.replace("--episodes=300", "--episodes=20")
        .replace("repeats: 4", "repeats: 2")
        .replace("[0.01, 0.1, 1.0]", "[0.1]")
        .replace("train_dir: runs", f"train_dir: {tmp_path}/runs")
    )
    kourou = [sys.executable, "-m", "kourou.cli", "sweep"]
    done = subprocess.run(
        [*kourou, "run", str(short), "-j", "2"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "cartpole: 2 succeeded" in done.stderr
    subprocess.run([*kourou, "plot", str(tmp_path / "runs" / "cartpole")], check=True, capture_output=True)
    page = (tmp_path / "runs" / "cartpole" / "plot.html").read_text()
    assert '"metric": "mean_return"' in page
    assert '"runs": 2' in page
