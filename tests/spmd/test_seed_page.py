"""The examples of torchrunx's own page run as written there, but on CPUs and on hosts that every machine has."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from optional import pytest

SCRIPT = """
    import os
    import torch
    import torch.distributed as dist
    import kourou.spmd as torchrunx

    def train(config=0, resume_from_checkpoint=False):
        if config == 1:
            raise torch.cuda.OutOfMemoryError("too large")
        if resume_from_checkpoint and not os.path.exists("checkpoint"):
            if dist.get_rank() == 0:
                open("checkpoint", "w").close()
                os.kill(os.getpid(), 9)
            dist.barrier()
        return torch.nn.Linear(2, 2)

    def evaluation(model):
        return sum(p.numel() for p in model.parameters())

    def finetuning(model):
        return torch.nn.Sequential(model, model)

    train_launcher = torchrunx.Launcher(hostnames=["127.0.0.1", "127.0.0.2"], workers_per_host=1, backend="gloo")
    eval_launcher = torchrunx.Launcher(hostnames=["127.0.0.1"], workers_per_host=1, backend="gloo")

    pretrained_model = train_launcher.run(train).rank(0)
    pretrained_acc = eval_launcher.run(evaluation, model=pretrained_model).rank(0)
    print(f"Pre-trained model accuracy: {pretrained_acc}")

    finetuned_model = train_launcher.run(finetuning, model=pretrained_model).rank(0)
    finetuned_acc = eval_launcher.run(evaluation, model=finetuned_model).rank(0)
    print(f"Fine-tuned model accuracy: {finetuned_acc}")

    for config in range(3):
        try:
            train_launcher.run(train, config)
        except torch.cuda.OutOfMemoryError:
            print(f"{config} results in OOM... continuing...")

    for retry in range(3):
        try:
            train_launcher.run(train, resume_from_checkpoint=True)
        except torchrunx.WorkerFailedError as e:
            print(f"Error occurred: {str(e).partition(' (')[0]}")
            print(f"Retrying ({retry}) ...")
        else:  # if run() is successful
            break
"""


@pytest.mark.soak
@pytest.mark.timeout(240)  # three zygotes import torch, on a busy machine
def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.stdout.splitlines() == [
        "Pre-trained model accuracy: 6",
        "Fine-tuned model accuracy: 6",
        "1 results in OOM... continuing...",
        "Error occurred: rank 0 on 127.0.0.1 was killed by SIGKILL",
        "Retrying (0) ...",
    ], ended.stderr
