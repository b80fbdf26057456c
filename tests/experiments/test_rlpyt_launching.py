"""rlpyt's run_experiments and launch_experiment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from kourou.experiments import (
    AffinityError,
    DescriptionError,
    VariantLevel,
    encode_affinity,
    launch_experiment,
    make_variants,
    run_experiments,
)

pytestmark = pytest.mark.usefixtures("no_leaks")

SCRIPT = """
import json, os, sys
from kourou.experiments import affinity_from_code, load_variant
code, log_dir, run_id, *rest = sys.argv[1:]
affinity = affinity_from_code(code)
with open(os.path.join(log_dir, f"run_{run_id}", "seen.json"), "w") as file:
    cpus = sorted(os.sched_getaffinity(0))
    json.dump([code, run_id, rest, load_variant(log_dir), cpus, os.environ.get("EGL_DEVICE_ID")], file)
sys.exit(int(rest[-1]))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "a script.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def cpus() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def seen(folder: Path) -> list:
    return json.loads((folder / "seen.json").read_text())


def test_every_variant_is_run_in_a_slot_of_the_code(tmp_path: Path, script: Path, cpus) -> None:
    level = VariantLevel([("agent", "lr")], [(0.1,), (0.2,)], ["fast", "slow"])
    variants, log_dirs = make_variants(level)
    code = encode_affinity(n_cpu_core=len(cpus), cpu_per_run=1, hyperthread_offset=0, n_socket=1)
    outcome = run_experiments(
        script, code, "title", 2, variants, log_dirs, common_args=["a b", 1], runs_args=[[0], (3,)], log_root=tmp_path
    )
    assert outcome.exit_code == 1
    assert [str(record.state) for record in outcome.records] == ["SUCCEEDED", "FAILED"] * 2
    folder = tmp_path / "title"
    slot_code, run_id, rest, variant, pinned, egl = seen(folder / "slow" / "run_1")
    assert (run_id, rest, variant, egl) == ("1", ["a b", "1", "3"], {"agent": {"lr": 0.2}}, None)
    assert slot_code.endswith(f"slt_{code}")
    assert len(pinned) == 1
    assert (folder / "num_launched.txt").read_text() == "Experiments launched so far: 4 out of 4.\n"
    assert (folder / "experiments_tree.txt").read_text().splitlines()[1:] == [
        "Number of settings (experiments) to run: 2  (4).",
        "",
        "fast",
        "slow",
    ]


def test_a_run_stays_on_its_slots_cpus_though_its_processes_do_not_pin_themselves(
    tmp_path: Path, script: Path, cpus: list[int]
) -> None:
    code = encode_affinity(n_cpu_core=1, hyperthread_offset=0, n_socket=1, set_affinity=False)
    run_experiments(script, code, "free", 1, [{}], ["v"], runs_args=[[0]], log_root=tmp_path)
    assert seen(tmp_path / "free" / "v" / "run_0")[4] == cpus[:1]


def test_egl_draws_on_the_runs_gpu(tmp_path: Path, script: Path) -> None:
    code = encode_affinity(n_cpu_core=1, n_gpu=1, hyperthread_offset=0, n_socket=1)
    run_experiments(script, code, "gpu", 1, [{"x": 1}], ["v"], runs_args=[[0]], set_egl_device=True, log_root=tmp_path)
    assert seen(tmp_path / "gpu" / "v" / "run_0")[5] == "0"


def test_mistakes_are_found_before_anything_starts(tmp_path: Path, script: Path) -> None:
    code = encode_affinity(n_cpu_core=1, hyperthread_offset=0, n_socket=1)
    with pytest.raises(DescriptionError, match="got 1 variants, 2 log_dirs"):
        run_experiments(script, code, "title", 1, [{}], ["a", "b"], log_root=tmp_path)
    much = encode_affinity(n_cpu_core=4096, cpu_per_run=2048, hyperthread_offset=0, n_socket=1)
    with pytest.raises(AffinityError, match="uses 4096 cores"):
        run_experiments(script, much, "title", 1, [{}], ["a"], log_root=tmp_path)
    assert not (tmp_path / "title").exists()


def test_a_single_run_is_launched_and_waited_for(tmp_path: Path, script: Path) -> None:
    code = encode_affinity(n_cpu_core=1, hyperthread_offset=0, n_socket=1)
    launched = launch_experiment(script, 0, code, tmp_path / "one", {"x": 1}, 5, [7])
    assert launched.wait(20) == 7
    assert (launched.poll(), launched.returncode) == (7, 7)
    assert seen(tmp_path / "one" / "run_5")[0] == f"0slt_{code}"
    assert (tmp_path / "one" / "run_5" / "stdout.log").exists()


def test_a_single_run_can_be_ended(tmp_path: Path) -> None:
    script = tmp_path / "sleeps.py"
    script.write_text("import time; time.sleep(60)")
    code = encode_affinity(n_cpu_core=1, hyperthread_offset=0, n_socket=1)
    launched = launch_experiment(script, 0, code, tmp_path / "one", {}, 0)
    with pytest.raises(subprocess.TimeoutExpired):
        launched.wait(0.05)
    launched.send_signal(9)
    assert launched.wait(20) == -9


def test_slots_that_there_are_not_are_refused(tmp_path: Path, script: Path) -> None:
    with pytest.raises(AffinityError, match="run_slot 1 is none of the 1 slots"):
        launch_experiment(script, 1, "1cpu_0gpu_1cpr_0hto", tmp_path / "log", {}, 0)
    with pytest.raises(AffinityError, match="has no slot"):
        run_experiments(script, "1cpu_0gpu_2cpr_0hto", "title", 1, [{}], ["a"], log_root=tmp_path)
    assert list(tmp_path.iterdir()) == [script]


def test_a_run_that_could_not_start_says_why_in_its_log(tmp_path: Path, script: Path) -> None:
    launched = launch_experiment(script, 0, "1cpu_0gpu_1cpr_0hto", tmp_path, {}, 0, python_executable="/no/such/python")
    assert launched.wait(30) != 0
    assert "/no/such/python" in (tmp_path / "run_0" / "stderr.log").read_text()
