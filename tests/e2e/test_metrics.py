"""lp.log in nodes, in what they start, and in the launcher: all of it is in the run's folder, while it runs."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import kourou as lp
from kourou.experiments import read_events
from kourou.runtime.metrics.reading import read_config, read_images, read_metrics
from optional import pytest
from polling import WAIT_S, complaints, until

pytestmark = pytest.mark.usefixtures("no_leaks")


class Learner:
    def learn(self, step: int) -> None:
        lp.log(step, loss=1.0 / (1 + step), lr=0.1)
        thread = threading.Thread(target=lp.log, args=(step,), kwargs={"in_thread": True})
        thread.start()
        thread.join()


def work(learner, with_children: bool) -> None:
    lp.log_config(actors=1)
    for step in range(3):
        learner.learn(step)
    if with_children:
        multiprocessing.get_context("spawn").Process(target=log_of_child).start()
        code = "import kourou as lp; lp.log(7, of='command')"
        subprocess.run([sys.executable, "-c", code], check=True)
    for child in multiprocessing.active_children():
        child.join()
    lp.log_image(0, dot=__import__("numpy").zeros((1, 1)))
    lp.wait_for_stop()


def log_of_child() -> None:
    lp.log(7, of="child")


def restarting() -> None:
    attempt = lp.get_context().attempt
    for step in range(attempt - 1, attempt + 2):
        lp.log(step, attempt=attempt)
    if attempt == 1:
        if lp.get_context().launch_type == "local_mp":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("once more")


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_rows_of_all_nodes_are_in_the_runs_folder_while_it_runs(launch_type: str) -> None:
    # given nodes, of which one is killed right after it has logged
    program = lp.Program("metrics")
    learner = program.add_node(lp.CourierNode(Learner), label="learner")
    program.add_node(lp.PyNode(work, learner, launch_type == "local_mp"), label="worker")
    with program.group("again", on_failure=lp.Restart(max_times=1)):
        program.add_node(lp.PyNode(restarting))
    # when they run
    with lp.launch(program, launch_type) as run:
        lp.log(1, of="launcher")

        def logged() -> bool:
            found = read_metrics(run.folder) if (run.folder / "metrics.jsonl").exists() else []
            again = sum(row["node"] == "again/0" and row["attempt"] == 2 for row in found)
            return again == 3 and bool(read_images(run.folder))

        until(logged, WAIT_S, "all rows")
    # then each has the node that it is of, and no row is lost
    rows = read_metrics(run.folder)
    by_node = {node: [row for row in rows if row["node"] == node] for node in {row["node"] for row in rows}}
    assert [row["loss"] for row in by_node["learner/0"] if "loss" in row] == [1, 1 / 2, 1 / 3]
    assert sum("in_thread" in row for row in by_node["learner/0"]) == 3
    assert [row["of"] for row in by_node["launcher"]] == ["launcher"]
    assert [(row["step"], row["attempt"]) for row in by_node["again/0"]] == [(0, 1), (1, 2), (2, 2), (3, 2)]
    if launch_type == "local_mp":
        assert sorted(row["of"] for row in by_node["worker/0"]) == ["child", "command"]
    assert read_config(run.folder) == {"actors": 1}
    assert (run.folder / read_images(run.folder)[0]["file"]).exists()


def test_a_program_in_a_sweeps_run_logs_to_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOUROU_RUN_DIR", str(tmp_path))
    monkeypatch.setenv("KOUROU_RUN_ATTEMPT", "2")
    program = lp.Program("inner")
    program.add_node(lp.PyNode(log_of_child), label="node")
    run = lp.launch(program, "local_mt", run_dir=tmp_path)
    run.wait(timeout_s=WAIT_S)
    assert [(row["node"], row["of"]) for row in read_metrics(tmp_path)] == [("node/0", "child")]
    assert '"_attempt": 2' in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")


CURVE = """
import kourou as lp

def curve():
    for step in range(5):
        lp.log(step, loss=1 / (1 + step))

program = lp.Program("curve")
program.add_node(lp.PyNode(curve), label="learner")
lp.launch(program, "local_mt", log_to=["tensorboard", "wandb"]).wait()
"""


def wandb_rows(file: Path) -> list[dict[str, Any]]:
    """The history in a run's file of W&B: records in blocks, as LevelDB's logs have them."""
    internal = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    data, at, whole, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:  # whole, or its last part
            record = internal.Record.FromString(whole)
            whole = b""
            if record.HasField("history"):
                items = record.history.item
                found.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
    return found


def test_one_learning_curve_is_in_tensorboard_and_in_wandb(runs_dir: Path) -> None:
    pytest.importorskip("wandb")
    # wandb leaves files open, so it has a process of its own
    environ = {**os.environ, "WANDB_MODE": "offline"}
    ended = subprocess.run([sys.executable, "-c", CURVE], env=environ, check=True, capture_output=True, text=True)
    assert complaints(ended.stderr) == []
    (folder,) = runs_dir.iterdir()
    points = [(step, pytest.approx(1 / (1 + step))) for step in range(5)]
    events = read_events(folder / "tensorboard" / "learner" / "0")
    assert [(row["step"], row["loss"]) for row in events] == points
    (file,) = folder.rglob("*.wandb")
    assert [(row["learner/0/step"], row["learner/0/loss"]) for row in wandb_rows(file)] == points
