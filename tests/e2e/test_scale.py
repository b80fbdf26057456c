"""Programs of many nodes: they start, answer, stop, and are gone, whatever happens meanwhile."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

import kourou as lp
from e2e.launching import Script
from polling import all_gone, marked, until

GONE_WITHIN_S = 2.0
START_S = 300.0  # of the largest on a busy machine

pytestmark = pytest.mark.usefixtures("no_leaks")

SIZES = [
    pytest.param("local_mp", 60, id="60 processes"),
    pytest.param("local_mt", 200, id="200 threads"),
    pytest.param("local_mp", 600, id="600 processes", marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
    pytest.param("local_mt", 1000, id="1000 threads", marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
]


class Answering:
    def ping(self):
        return "pong"


def started(nodes: int, launch_type: str) -> float:
    """Seconds from the launch until all are READY."""
    program = lp.Program("scale")
    with program.group("node"):
        for _ in range(nodes):
            program.add_node(lp.CourierNode(Answering))
    begun = time.monotonic()
    with lp.launch(program, launch_type, terminal="output_to_files") as run:
        until(lambda: all(node.state is lp.NodeState.READY for node in run.nodes.values()), START_S)
        return time.monotonic() - begun


MANY = """
class Answering:
    def ping(self):
        return "pong"

program = lp.Program("many")
with program.group("node"):
    handles = [program.add_node(lp.CourierNode(Answering)) for _ in range({nodes})]
run = lp.launch(program, "{launch_type}", terminal="output_to_files")
say("launched")
{then}
run.wait()
"""
ALL_READY = """
while any(node.state is not lp.NodeState.READY for node in run.nodes.values()):
    time.sleep(0.05)
say("ready")
"""
BROADCAST = """
say("answers", set(lp.broadcast(handles).ping()))
run.stop()
say("ended as", set(str(node.state) for node in run.nodes.values()))
"""


@pytest.mark.parametrize(("launch_type", "nodes"), SIZES)
def test_all_are_ready_answer_a_broadcast_and_stop(launch_type, nodes, tmp_path: Path):
    # Given, When
    script = MANY.format(nodes=nodes, launch_type=launch_type, then=ALL_READY + BROADCAST)
    with Script(tmp_path, script) as launcher:
        launcher.expect("ready", START_S)
        # Then
        launcher.expect(re.escape("answers {'pong'}"), START_S)
        launcher.expect(re.escape("ended as {'FINISHED'}"), START_S)
        assert launcher.end(START_S) == 0


@pytest.mark.parametrize(("launch_type", "nodes"), SIZES)
def test_ctrl_c_while_they_start_ends_them(launch_type, nodes, tmp_path: Path, runs_dir: Path):
    # Given a launcher that has begun to start its nodes
    with Script(tmp_path, MANY.format(nodes=nodes, launch_type=launch_type, then="")) as launcher:
        launcher.expect("launched", START_S)
        # When
        launcher.interrupt()
        # Then
        assert launcher.end(START_S) == 128 + signal.SIGINT
    assert marked(runs_dir) == []


@pytest.mark.parametrize(
    "nodes", [60, pytest.param(400, marks=[pytest.mark.soak, pytest.mark.timeout(600)])], ids=["60", "400"]
)
def test_all_are_gone_two_seconds_after_the_launcher_was_killed(nodes, tmp_path: Path, runs_dir: Path):
    # Given
    with Script(tmp_path, MANY.format(nodes=nodes, launch_type="local_mp", then=ALL_READY)) as launcher:
        launcher.expect("ready", START_S)
        everything = [process for process in marked(runs_dir) if process != launcher.process]
        assert len(everything) == nodes + 1
        # When
        launcher.signal(signal.SIGKILL)
        launcher.end()
        # Then
        all_gone(everything, GONE_WITHIN_S)


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_the_limit_of_descriptors_is_raised_as_far_as_is_needed(launch_type, tmp_path: Path):
    # Given a launcher with few descriptors, and the right to more
    limited = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 4096))\n"
    then = ALL_READY + "say('limit', resource.getrlimit(resource.RLIMIT_NOFILE)[0])\nrun.stop()"
    with Script(tmp_path, limited + MANY.format(nodes=60, launch_type=launch_type, then=then)) as launcher:
        # When more nodes are started than it had descriptors for, then they are there, and the limit is not the highest
        assert 128 < int(launcher.expect(r"limit (\d+)", START_S)[1]) < 4096
        assert launcher.end() == 0


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("launch_type", ["local_mp", "local_mt"])
def test_a_node_of_four_hundred_takes_hardly_longer_to_start_than_one_of_fifty(launch_type):
    # Given the better of two tries each, in turn
    few, many = zip(*((started(50, launch_type), started(400, launch_type)) for _ in range(2)), strict=True)
    # When, Then
    assert min(many) / 400 < 1.5 * min(few) / 50
