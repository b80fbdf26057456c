"""Nodes are called by scripts that have not launched them."""

from __future__ import annotations

import subprocess
import sys

import kourou as lp
from optional import pytest
from polling import WAIT_S

pytestmark = pytest.mark.usefixtures("no_leaks")


class Counter:
    def __init__(self):
        self.total = 0

    def add(self, amount):
        self.total += amount
        return self.total

    def items(self):
        yield from range(self.total)

    def fail(self):
        raise ValueError("no such env")


class Idle:
    pass


def program() -> tuple[lp.Program, lp.Handle]:
    made = lp.Program("connected")
    counter = made.add_node(lp.CourierNode(Counter, courier_kwargs={"thread_pool_size": 1}), label="counter")
    for _ in range(2):
        made.add_node(lp.CourierNode(Idle), label="idle")
    return made, counter


_SCRIPT = """
import sys
import kourou as lp

with lp.connect(sys.argv[1], runs_dir=sys.argv[2]) as run:
    counter = run.client("counter")
    print(run.run_id, counter.add(1), counter.futures.add(2).result(), list(counter.items()))
    try:
        counter.fail()
    except ValueError as error:
        print(error)
    print(lp.broadcast([run.client("counter/0")]).add(3))
"""


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_another_script_calls_nodes_of_a_live_run(launch_type, tmp_path):
    with lp.launch(program()[0], "local_mt", run_dir=tmp_path):
        pass  # a run of that name that has ended
    made, counter = program()
    with lp.launch(made, launch_type, run_dir=tmp_path) as run:
        words = [sys.executable, "-c", _SCRIPT, "conn", str(run.folder.parent)]  # the beginning of its name
        said = subprocess.run(words, check=True, timeout=WAIT_S, stdout=subprocess.PIPE, text=True).stdout
        assert said == f"{run.run_id} 1 3 [0, 1, 2]\nno such env\n[6]\n"
        assert counter.dereference().add(0) == 6


def test_what_is_not_there_is_told(tmp_path):
    made, _ = program()
    with lp.launch(made, "local_mt", run_dir=tmp_path) as run, lp.connect(run.folder) as connected:
        with pytest.raises(lp.errors.NotFound, match=r"no node 'countr'; the labels are: counter, idle \(2 nodes\)"):
            connected.client("countr")
        with pytest.raises(lp.errors.NotFound, match="'idle' has 2 nodes, name one: idle/0, idle/1"):
            connected.client("idle")
        client = connected.client("counter")
        assert client.add(1) == 1
    with pytest.raises(lp.errors.CallCancelled, match="closed"):
        client.add(1)
    with pytest.raises(lp.errors.RunUnavailable, match="has ended"):
        lp.connect(run.folder)
    with pytest.raises(lp.errors.NotFound, match="no run in .* begins with 'nobody'"):
        lp.connect("nobody", runs_dir=run.folder.parent)


_LAUNCHER = """
import sys
import kourou as lp

class Idle:
    pass

program = lp.Program("killed")
program.add_node(lp.CourierNode(Idle), label="idle")
with lp.launch(program, "local_mp", run_dir=sys.argv[1]) as run:
    print(run.folder, flush=True)
    run.wait()
"""


def test_a_launcher_that_was_killed_is_said_to_be(tmp_path):
    words = [sys.executable, "-c", _LAUNCHER, tmp_path]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        connected = lp.connect(launcher.stdout.readline().strip())
        launcher.kill()
        launcher.wait(WAIT_S)
        with connected, pytest.raises(lp.errors.RunUnavailable, match="has ended, since its launcher died: "):
            connected.client("idle")


class Pair:
    def __init__(self):
        self.name = lp.get_context().name

    def who(self):
        return self.name


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_the_script_that_launched_them_calls_nodes_by_their_names(launch_type, tmp_path):
    # given a program with a node, two of one label, and one within a colocation
    made, _ = program()
    made.add_node(lp.MultiThreadingColocation([lp.CourierNode(Pair)]), label="both")
    with lp.launch(made, launch_type, run_dir=tmp_path) as run:
        # when they are called by their names, and one that came later
        counter = run.client("counter")
        assert [counter.add(2), run.client("counter/0").add(3)] == [2, 5]
        assert run.client("both/0:0").who() == "both/0:0"
        run.add_node(lp.CourierNode(Counter), "late")
        assert run.client("late").add(1) == 1
        # then a name that is several nodes', or nobody's, says which there are
        with pytest.raises(lp.errors.NotFound, match="'idle' has 2 nodes, name one: idle/0, idle/1"):
            run.client("idle")
        with pytest.raises(lp.errors.NotFound, match="there is no node 'conter'"):
            run.client("conter")
    # and of a run that has ended there is none
    with pytest.raises(lp.errors.NodeExited, match="has ended, and counter/0 with it"):
        run.client("counter")
