"""``python -m kourou.experiments.run``: Sample Factory's flags, and its descriptions unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kourou.experiments.run import launcher_argparser

pytestmark = pytest.mark.usefixtures("no_leaks")

MODULE = """
from kourou.experiments import Experiment, ParamGrid, RunDescription
grid = ParamGrid([("seed", [0, 1]), (("use_rnn", "recurrence"), ([False, 1], [True, 16]))])
RUN_DESCRIPTION = RunDescription("run", [Experiment("exp", "sh -c '%s' sh", grid.generate_params(randomize=False))])
"""


def launch(folder: Path, *flags: str, script: str = 'echo "$@"; echo "$CUDA_VISIBLE_DEVICES"', **env: str):
    (folder / "described.py").write_text(MODULE % script.replace('"', '\\"'))
    return subprocess.run(
        [sys.executable, "-m", "kourou.experiments.run", *flags],
        cwd=folder,
        env={**os.environ, **env},
        check=False,
        capture_output=True,
        text=True,
    )


def test_all_runs_are_run_with_the_arguments_that_sample_factory_gives_them(tmp_path: Path) -> None:
    done = launch(tmp_path, "--run=described", "--backend=processes", "--max_parallel=2", "--pause_between=0")
    assert (done.returncode, done.stdout) == (0, "")
    assert "run: 4 succeeded" in done.stderr
    name = "00_exp_see_0_u.rnn_False_rec_1"
    words = f"--seed=0 --use_rnn=False --recurrence=1 --experiment={name} --train_dir=./train_dir/run/exp_"
    log = tmp_path / "train_dir" / "run" / "exp_" / name / "stdout.log"
    assert log.read_text().splitlines()[0] == words


def test_descriptions_made_with_sample_factorys_own_classes_are_taken(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        """
from types import SimpleNamespace as Made
experiment = Made(base_name="exp", cmd="true", params=[{"seed": 1}, {"seed": 2}], env_vars=None)
names = dict(experiment_arg_name="--e", experiment_dir_arg_name="--d", param_prefix="--")
RUN_DESCRIPTION = Made(run_name="run", experiments=[experiment], customize_experiment_name=True, **names)
"""
    )
    done = launch(tmp_path, "--run=own", "--print_only=True")
    assert done.returncode == 0
    assert "true --seed=2 --e=01_exp_see_2 --d=./train_dir/run/exp_" in done.stdout


def test_experiments_per_gpu_keeps_to_the_launchers_mask(tmp_path: Path) -> None:
    flags = ["--run=described", "--num_gpus=2", "--experiments_per_gpu=1", "--max_parallel=8", "--train_dir=t"]
    done = launch(tmp_path, *flags, "--experiment_suffix=s", CUDA_VISIBLE_DEVICES="2,3,4")
    assert done.returncode == 0
    logs = [path.read_text().splitlines() for path in (tmp_path / "t" / "run" / "exp_s").rglob("stdout.log")]
    assert {lines[1] for lines in logs} == {"2", "3"}


def test_a_failed_run_gives_1_where_the_original_gives_0(tmp_path: Path) -> None:
    done = launch(tmp_path, "--run=described", script="exit 1")
    assert done.returncode == 1
    assert "4 failed" in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--run=nothing"], "there is no module 'nothing'"),
        (["--run=described", "--slurm_partition=main"], "unrecognized arguments: --slurm_partition=main"),
        (["--run=described", "--backend=magic"], "invalid choice: 'magic'"),
        (["--run=described", "--print_only=maybe"], "expected True or False"),
        ([], "the following arguments are required: --run"),
    ],
)
def test_a_mistake_gives_2(tmp_path: Path, flags: list[str], message: str) -> None:
    done = launch(tmp_path, *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "train_dir").exists()


def test_print_only_does_nothing(tmp_path: Path) -> None:
    done = launch(tmp_path, "--run=described", "--print_only=True")
    assert done.returncode == 0
    assert done.stdout.count("--experiment=") == 4
    assert not (tmp_path / "train_dir").exists()


def test_ngc(tmp_path: Path) -> None:
    (tmp_path / "ngc").write_text('#!/bin/sh\nprintf "%s\\n" "$@" >> calls\n')
    (tmp_path / "ngc").chmod(0o755)
    (tmp_path / "t.template").write_text('ngc batch run --name "{{ name }}" --commandline "{{ experiment_cmd }}"')
    flags = ["--run=described", "--backend=ngc", "--ngc_job_template=t.template", "--train_dir=/workspace"]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = launch(tmp_path, *flags, "--ngc_print_only=True", PATH=path)
    assert done.returncode == 0
    assert done.stdout.count("ngc batch run --name") == 4
    assert not (tmp_path / "calls").exists()
    # and --train_dir, which is a folder over there, is not made here
    flags[-1] = "--train_dir=/dev/null/workspace"
    done = launch(tmp_path, *flags, PATH=path)
    assert (done.returncode, (tmp_path / "calls").read_text().count("/dev/null/workspace/run/exp_")) == (0, 4)
    assert (tmp_path / "train_dir" / "run" / "sweep.sqlite").exists()
    # and a launch of another backend, which has its journal there as well, says why it starts none of them
    done = launch(tmp_path, "--run=described", "--backend=processes")
    told = "run: 4 queued\n  4 were handed to another system before, and not run here; --rerun all runs all of them\n"
    assert (done.returncode, done.stderr) == (0, told)


def test_a_mistake_in_the_described_module_shows_its_own_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    done = launch(tmp_path, "--run=broken")
    assert done.returncode == 1
    assert "No module named 'no_such_package'" in done.stderr


def test_the_parser_alone_does_without_a_run() -> None:
    args = launcher_argparser([]).parse_args([])
    assert (args.run, args.backend, args.max_parallel) == (None, "processes", 4)
