"""Launchers from command lines, and runs under the libraries that people use torch with."""

from __future__ import annotations

import argparse
import os
from typing import Any

from kourou.spmd import Launcher, add_launcher_arguments, launcher_from_args
from optional import pytest


def parsed(*words: str) -> Launcher:
    parser = argparse.ArgumentParser()
    add_launcher_arguments(parser)
    return launcher_from_args(parser.parse_args(words))


def test_argparse_without_any_flag_gives_the_defaults() -> None:
    assert parsed() == Launcher()


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["--hostnames", "slurm"], {"hostnames": "slurm"}),
        (["--hostnames", "a", "b"], {"hostnames": ["a", "b"]}),
        (["--workers-per-host", "cpu"], {"workers_per_host": "cpu"}),
        (["--workers-per-host", "3"], {"workers_per_host": 3}),
        (["--workers-per-host", "3", "4"], {"workers_per_host": [3, 4]}),
        (["--backend", "none"], {"backend": None}),
        (["--extra-env-vars", "A=1", "B=x=y z"], {"extra_env_vars": {"A": "1", "B": "x=y z"}}),
        (["--copy-env-vars", "HF_*", "X"], {"copy_env_vars": ("HF_*", "X")}),
        (["--sync", "rsync"], {"sync": "rsync"}),
        (["--retries", "2", "--worker-timeout", "9"], {"retries": 2, "worker_timeout_s": 9}),
    ],
)
def test_argparse_flags_are_fields(words: list[str], fields: dict[str, Any]) -> None:
    assert parsed(*words) == Launcher(**fields)


@pytest.mark.parametrize("words", [["--workers-per-host", "x"], ["--workers-per-host", "-1"]])
def test_argparse_refuses_what_is_no_number(words: list[str]) -> None:
    with pytest.raises((ValueError, SystemExit)):
        parsed(*words)


def test_tyro_takes_the_dataclass_with_and_without_flags() -> None:
    import tyro

    assert tyro.cli(Launcher, args=[]) == Launcher()
    words = ["--hostnames", "a", "b", "--workers-per-host", "2", "--backend", "gloo", "--env-file", "x"]
    assert tyro.cli(Launcher, args=words) == Launcher(["a", "b"], 2, backend="gloo", env_file="x")


def with_accelerate() -> tuple[int, int, list[int]]:
    import accelerate
    import torch

    accelerator = accelerate.Accelerator(cpu=True)
    gathered = accelerator.gather(torch.tensor([accelerator.process_index]))
    return accelerator.process_index, accelerator.num_processes, gathered.tolist()


def test_accelerate_finds_the_other_ranks(gloo2: Launcher) -> None:
    gloo2.extra_env_vars = {"ACCELERATE_USE_CPU": "true"}
    assert gloo2.run(with_accelerate).results["localhost"] == [(0, 2, [0, 1]), (1, 2, [0, 1])]


def with_lightning() -> tuple[int, int, float]:
    import torch
    from lightning.fabric import Fabric

    from kourou.spmd.lightning import SpmdEnvironment

    assert SpmdEnvironment.detect()
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp", plugins=[SpmdEnvironment()])
    fabric.launch()
    total = fabric.all_reduce(torch.tensor(float(fabric.global_rank)), reduce_op="sum")
    return fabric.global_rank, fabric.world_size, float(total)


@pytest.mark.long
def test_lightning_finds_the_other_ranks(gloo2: Launcher) -> None:
    gloo2.backend = None
    assert gloo2.run(with_lightning).results["localhost"] == [(0, 2, 1.0), (1, 2, 1.0)]


def with_ddp() -> tuple[int, float]:
    import torch
    from torch.nn.parallel import DistributedDataParallel

    torch.manual_seed(int(os.environ["RANK"]))
    model = DistributedDataParallel(torch.nn.Linear(1, 1, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.tensor([[float(os.environ["RANK"])]])).sum().backward()
    optimizer.step()
    return int(os.environ["RANK"]), float(next(model.parameters()).item())


def test_ranks_agree_under_plain_ddp(gloo2: Launcher) -> None:
    first, second = gloo2.run(with_ddp).results["localhost"]
    assert first[1] == second[1]
