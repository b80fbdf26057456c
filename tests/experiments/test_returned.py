"""What the functions of a sweep's runs returned, after it and elsewhere."""

from __future__ import annotations

import dataclasses
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from experiments.sweeping import by_name, function_run, shell_run, sweep
from kourou.experiments import ResultsError, run_result
from optional import pytest

numpy = pytest.importorskip("numpy")
pytestmark = pytest.mark.usefixtures("no_leaks")


@dataclasses.dataclass
class Trained:
    lr: float
    curve: Any


def train(lr):
    return Trained(lr, numpy.full(5000, lr))


def nothing():
    pass


def unkept():
    return {"lock": [threading.Lock()]}


def large():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
    return bytes(1 << 20)


def fail():
    raise ValueError("no such env")


def test_what_functions_return_is_there_after_the_sweep(tmp_path: Path) -> None:
    # Given runs of functions, two that return what cannot be kept, one that fails, and one of a command
    functions = (nothing, unkept, large, fail)
    runs = [
        function_run(tmp_path, "train", train, lr=0.5),
        *(function_run(tmp_path, function.__name__, function) for function in functions),
        shell_run(tmp_path, "command", "true"),
    ]
    # When they have ended
    outcome = sweep(tmp_path, runs)
    records = by_name(outcome)
    # Then results are the script's own objects, arrays can be written to, and all else is told
    trained = run_result(records["train"])
    assert type(trained) is Trained
    trained.curve += 1
    assert trained.curve.tolist() == [1.5] * 5000
    assert run_result(records["nothing"]) is None
    assert records["unkept"].state == records["large"].state == "SUCCEEDED"
    for name, told in {
        "unkept": r"the result\['lock'\]\[0\]: a _thread.lock cannot be sent",
        "large": "the result cannot be written: .*File too large",
        "fail": "the run has no result, it is FAILED: exited with 1: ValueError: no such env",
        "command": "only what a function returns is kept",
    }.items():
        with pytest.raises(ResultsError, match=told):
            run_result(records[name])
    for name in ("unkept", "large"):
        assert "it is not kept" in Path(records[name].folder, "stderr.log").read_text()
    with pytest.raises(ResultsError, match="no run has ended there"):
        run_result(tmp_path)


_SCRIPT = """
import collections, sys
from kourou.experiments import RunSpec, run_result, run_sweep

class Net:
    def __init__(self, width):
        self.width = width

runs = [RunSpec(name=f"w{w}", folder=f"runs/w{w}", function=Net, params={"width": w}) for w in (1, 2)]
if "launch" in sys.argv:
    run_sweep(runs, "runs")
else:
    print([(type(net) is Net, net.width) for net in (run_result(run.folder) for run in runs)])
"""


def test_another_process_of_the_script_reads_them_as_its_own(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(_SCRIPT)
    subprocess.run([sys.executable, "job.py", "launch"], cwd=tmp_path, check=True, timeout=60)
    read = subprocess.run([sys.executable, "job.py"], cwd=tmp_path, check=True, timeout=60, stdout=subprocess.PIPE)
    assert read.stdout == b"[(True, 1), (True, 2)]\n"
