"""Managers whose agents use torch, or whose process has it: apart, since the workers of others would import it too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from experiments.agents import Net, manager
from kourou import errors
from optional import pytest

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_torch_in_several_threads_is_refused(tmp_path: Path) -> None:
    import torch  # noqa: F401 - that it is loaded is what matters

    with pytest.raises(errors.PlanError, match=r"torch's generator is one.*max_workers=1"):
        manager(tmp_path, Net, max_workers=2).fit()


def test_torch_that_fits_in_threads_import_is_refused_then(tmp_path: Path) -> None:
    # given a process without torch, whose two fits begin both before either imports it
    code = """
import random, sys, threading
from experiments.agents import Net, manager
from kourou.experiments import FitsFailed
before = random.getstate()
both = threading.Barrier(2)
class Together(Net):
    def __init__(self, **handed_over):
        both.wait(30)
        super().__init__(**handed_over)
try:
    manager(sys.argv[1], Together, max_workers=2).fit()
except FitsFailed as error:
    print(error)
print("as before:", random.getstate() == before)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", code, str(tmp_path)]
    # when, then
    done = subprocess.run(command, check=False, env=env, capture_output=True, text=True)
    assert "torch's generator is one for all threads" in done.stdout, done.stderr
    assert "as before: True" in done.stdout


def test_a_fit_leaves_the_generators_of_this_process_alone(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(3)
    before = torch.get_rng_state(), torch.get_num_threads()
    manager(tmp_path, Net, n_fit=1).fit()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


@pytest.mark.alone
def test_a_fork_with_torchs_threads_is_refused_before_anything_starts(tmp_path: Path) -> None:
    import torch  # noqa: F401 - as above

    made = manager(tmp_path, Net, mode="fork", threads_per_fit=2)
    with pytest.raises(errors.PlanError, match=r"OpenMP threads do not come along.*forkserver"):
        made.fit()
    assert not made.fitted
