"""Programs on a real Slurm."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kourou as lp
from experiments.slurm_cluster import slurm_cluster
from kourou.runtime.model.engines import EngineOptions
from kourou.testing.contracts.engines import ENGINE_CHECKS, check_a_run
from polling import until

pytestmark = [pytest.mark.needs("slurm"), pytest.mark.usefixtures("no_leaks"), pytest.mark.timeout(120)]

WITHIN_S = 60.0


@pytest.fixture(scope="module")
def _cluster() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kourou-slurm-") as folder, slurm_cluster(Path(folder) / "s") as config:
        yield config


@pytest.fixture(autouse=True)
def _slurm(_cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SLURM_CONF", str(_cluster))
    yield
    until(lambda: not queue(), WITHIN_S, "an empty queue: nothing is left of any allocation")


def queue() -> str:
    return subprocess.run(["squeue", "-h"], check=True, capture_output=True, text=True).stdout


def test_programs_run_on_slurm_as_on_any_engine() -> None:
    check_a_run(lp.Slurm(nodes=2, lost_after_s=4))


@pytest.mark.soak
@pytest.mark.parametrize("check", [check for check in ENGINE_CHECKS if check is not check_a_run])
def test_slurm_keeps_the_contract(check: Callable[[EngineOptions], None]) -> None:
    check(lp.Slurm(nodes=2, lost_after_s=4))


def stop() -> None:
    lp.stop()


def test_what_slurm_cannot_give_is_said_in_its_words() -> None:
    program = lp.Program("wishes")
    program.add_node(lp.PyNode(stop), label="worker")
    with pytest.raises(lp.errors.LaunchError, match="invalid partition specified: nowhere"):
        lp.launch(program, lp.Slurm(partition="nowhere"))
    with pytest.raises(lp.errors.LaunchError, match="Requested node configuration is not available"):
        lp.launch(program, lp.Slurm(), local_resources={"worker": lp.Resources(gpus=9)})
