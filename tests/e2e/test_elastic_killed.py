"""While nodes come and go, something is killed: everything ends clean, and nobody else is harmed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from pathlib import Path

import kourou as lp
from e2e.launching import Script
from optional import psutil, pytest
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")

ROUNDS = [1, pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(300)])]


class Member:
    def index(self):
        return lp.get_context().index


def resize_for_ever(group):
    """Let a group grow and shrink until the program stops."""
    count = 0
    while not lp.wait_for_stop(0):
        count += 1
        lp.get_context().scale("member", 4 if count % 2 else 1)
        group.index()


def program_of(members):
    program = lp.Program("resized")
    for _ in range(members):
        program.add_node(lp.CourierNode(Member), label="member")
    program.add_node(lp.CourierNode(Member), label="other")
    return program


def await_scaling(run):
    until(lambda: len(run.nodes) > 6 + random.randrange(5), WAIT_S)


def await_ready(run, names):
    until(lambda: all(run.nodes[name].state is lp.NodeState.READY for name in names), WAIT_S)


def await_living(run, label, count):
    def living():
        return sum(name.startswith(label) and not record.gone for name, record in run.nodes.items())

    until(lambda: living() == count, WAIT_S)


def kill(run, name):
    with contextlib.suppress(ProcessLookupError):  # it was quicker
        os.kill(run.nodes[name].pid, signal.SIGKILL)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_the_node_that_scales_a_group_is_killed(rounds, tmp_path):
    for _ in range(rounds):
        program = program_of(1)
        with program.group("controller", on_failure="ignore"):
            program.add_node(lp.PyNode(resize_for_ever, program.handle_to_group("member")))
        with lp.launch(program, "local_mp", run_dir=tmp_path) as run:
            await_scaling(run)
            kill(run, "controller/0")
            await_living(run, "controller/", 0)
            # What it had asked for is done, or not; the group can be scaled as before
            run.scale("member", 2)
            await_living(run, "member/", 2)
            with lp.broadcast(program.handle_to_group("member"), timeout_s=WAIT_S) as group:
                assert len(group.index()) == 2
            assert run.nodes["other/0"].state is lp.NodeState.READY
            assert run.failures == ()


@pytest.mark.parametrize("rounds", ROUNDS)
def test_nodes_are_killed_while_they_are_removed(rounds, tmp_path):
    with lp.launch(program_of(1), "local_mp", run_dir=tmp_path) as run:
        for _ in range(rounds):
            names = run.scale("member", 3)
            await_ready(run, names)
            run.remove(*names)
            for name in names:
                kill(run, name)
            await_living(run, "member/", 1)
        assert run.nodes["other/0"].state is lp.NodeState.READY
        assert run.failures == ()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("rounds", ROUNDS)
def test_the_launcher_is_interrupted_or_killed_while_it_scales(number, rounds, tmp_path: Path):
    source = """
        class Member:
            def run(self):
                lp.wait_for_stop()

        if __name__ == "__main__":
            program = lp.Program("resized")
            program.add_node(lp.CourierNode(Member), label="member")
            run = lp.launch(program, "local_mp")
            for count in range(10_000):
                run.scale("member", 6 if count % 2 else 1)
                say("scaled", count)
    """
    for each in range(rounds):
        with Script(tmp_path, source) as script:
            script.expect(f"scaled {each % 7 + 1}", WAIT_S)
            children = script.process.children(recursive=True)
            script.signal(number)
            assert script.end(WAIT_S) == (130 if number == signal.SIGINT else -signal.SIGKILL)
            assert psutil.wait_procs(children, WAIT_S)[1] == []
            assert "Traceback" not in script.errors
