"""A notebook in a real kernel: a program, a sweep and a manager, what cells show, and what interrupting one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from optional import is_there

pytestmark = pytest.mark.skipif(not (is_there("ipykernel") and is_there("nbclient")), reason="no Jupyter is installed")

SETUP = """
import os, signal, threading, time
import kourou as lp
from kourou.experiments import ExperimentManager, RunSpec, run_sweep
from kourou.runtime.stopping import exit_signals

def press_stop(when):
    def wait():
        while not when():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=wait, daemon=True).start()

class Counter:
    def add(self, amount):
        return amount
    async def rows(self, count):
        for row in range(count):
            yield row

def work(counter):
    counter.add(1)
    lp.wait_for_stop()

program = lp.Program("notebook")
counter = program.add_node(lp.CourierNode(Counter), label="counter")
program.add_node(lp.PyNode(work, counter), label="worker")
program
"""
LAUNCH = """
run = lp.launch(program, "local_mp", run_dir="runs/run")
run
"""
AWAIT = """
client = lp.aio.Client(counter)
await client.add(2), [row async for row in client.rows(3)]
"""
WAIT = """
press_stop(lambda: exit_signals._waiting)
run.wait()
"""
ENDED = """
for thread in threading.enumerate():
    if thread.name == "kourou-notebook":
        thread.join()  # nbclient passes over what is shown between two cells, and the last look comes once
run.ended, [str(node.state) for node in run.nodes.values()]
"""
SWEEP = """
def slow(begun):
    open(begun, "w").close()
    time.sleep(1000)

press_stop(lambda: os.path.exists("begun"))
begun = {"begun": os.path.abspath("begun")}
run_sweep([RunSpec(name="slow", folder="sweep/slow", function=slow, params=begun)], "sweep")
"""
QUICK = """
run_sweep([RunSpec(name=f"quick{x}", folder=f"quick/{x}", function=abs, params={"x": x}) for x in ()], "quick")
"""
MANAGER = """
class Agent:
    name = "agent"
    def __init__(self, env): pass
    def fit(self, budget): pass
    def eval(self): return 1.0

manager = ExperimentManager(Agent, (dict, {}), fit_budget=1, n_fit=2, output_dir="fits")
manager.fit()
manager
"""
CELLS = {"setup": SETUP, "launch": LAUNCH, "await": AWAIT, "wait": WAIT, "ended": ENDED, "sweep": SWEEP}
CELLS |= {"quick": QUICK, "manager": MANAGER}
EXECUTE = """
import json, sys
import nbclient, nbformat
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in json.load(sys.stdin)])
nbclient.NotebookClient(book, timeout=60, allow_errors=True).execute()
json.dump([cell.outputs for cell in book.cells], sys.stdout)
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What each cell has shown."""
    folder = tmp_path_factory.mktemp("notebook")
    own = {name: str(folder / name) for name in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE],
        input=json.dumps(list(CELLS.values())),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, **own, "KOUROU_RUNS_DIR": str(folder / "runs"), "PYDEVD_DISABLE_FILE_VALIDATION": "1"},
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(CELLS, json.loads(done.stdout), strict=True))


def html_of(outputs):
    return [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]


def test_values_are_shown_as_pictures_and_tables(outputs):
    assert html_of(outputs["setup"])[0].startswith("<svg")
    (run,) = html_of(outputs["launch"])  # which has followed the run to its end
    assert run.count("FINISHED") == 2
    assert html_of(outputs["quick"])[0].startswith("<table>")
    bar, manager = html_of(outputs["manager"])
    assert bar.startswith('<progress value="2" max="2">')
    assert manager.count("<td ") == 8


def test_a_cell_awaits_calls_on_the_kernel_s_event_loop(outputs):
    (shown,) = outputs["await"]
    assert shown["data"]["text/plain"] == "(2, [0, 1, 2])"


@pytest.mark.parametrize(
    ("cell", "kind"), [("wait", "Interrupted"), ("sweep", "SweepInterrupted")], ids=["run", "sweep"]
)
def test_an_interrupted_cell_stops_what_it_waits_for_and_says_so_in_a_line(cell, kind, outputs):
    (error,) = [output for output in outputs[cell] if output["output_type"] == "error"]
    assert error["ename"] == kind
    assert len(error["traceback"]) == 1
    assert "stopped" in error["traceback"][0]
    if cell == "wait":
        assert outputs["ended"][0]["data"]["text/plain"] == "(True, ['FINISHED', 'FINISHED'])"
