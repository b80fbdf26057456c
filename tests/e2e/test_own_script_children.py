"""The user's own script: what its nodes' children, setup functions and other processes have of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

from e2e.launching import BOTH, Script, run_as

pytestmark = pytest.mark.usefixtures("no_leaks", "runs_dir")


@BOTH
def test_setup_is_called_first_in_nodes_and_in_the_children_that_they_spawn(tmp_path, kind):
    said = run_as(
        tmp_path,
        kind,
        """
        import multiprocessing, registry
        import kourou as lp

        def set_up():
            registry.known["walk"] = Walk

        def set_up_labels():
            registry.known["run"] = registry.known["walk"]

        class Walk:
            pass

        def child(queue):
            queue.put(sorted(registry.known))

        class Node:
            def __init__(self, found):
                self.found = found
            def run(self):
                print("node", self.found == Walk, sorted(registry.known))
                for method in ("spawn", "forkserver"):
                    context = multiprocessing.get_context(method)
                    queue = context.SimpleQueue()
                    started = context.Process(target=child, args=(queue,))
                    started.start()
                    print(method, queue.get())
                    started.join()

        program = lp.Program("setup")
        program.add_node(lp.PyClassNode(Node, lp.Deferred(registry.find, "walk")), label="node")
        resources = {"node": lp.PythonProcess(setup=set_up_labels)}
        lp.launch(program, KIND, setup=set_up, local_resources=resources).wait()
        """
        if (tmp_path / "registry.py").write_text("known = {}\n\ndef find(name):\n    return known[name]\n")
        else "",
    )
    assert "node True ['run', 'walk']" in said
    assert "spawn ['run', 'walk']" in said
    assert "forkserver ['run', 'walk']" in said


def test_a_setup_that_raises_is_the_nodes_failure(tmp_path):
    said = run_as(
        tmp_path,
        "local_mp",
        """
        import kourou as lp

        def set_up():
            raise OSError("no licence")

        program = lp.Program("setup")
        program.add_node(lp.PyNode(print), label="node")
        lp.launch(program, KIND, setup=set_up).wait()
        """,
        code=1,
    )
    assert "node/0 raised OSError: no licence" in said


def test_a_handle_among_the_globals_of_a_node_is_an_error_that_says_where_it_belongs(tmp_path):
    said = run_as(
        tmp_path,
        "local_mp",
        """
        import kourou as lp

        def work():
            server.dereference()

        program = lp.Program("handle")
        server = program.add_node(lp.CourierNode(dict), label="server")
        program.add_node(lp.PyNode(work), label="work")
        lp.launch(program, KIND)
        """,
        code=1,
    )
    assert "work/0 (work) uses the global 'server' (launcher.py:" in said
    assert "nodes get it as an argument, lp.PyNode(function, handle)" in said
    assert "Make it inside" not in said


def test_a_child_that_was_spawned_belongs_to_the_program(tmp_path):
    said = run_as(
        tmp_path,
        "local_mp",
        """
        import multiprocessing
        import kourou as lp

        def child():
            print("child of", lp.get_context().name, flush=True)
            lp.stop("the child says so")
            assert lp.wait_for_stop(30)
            print("child has seen the stop", flush=True)

        def work():
            started = multiprocessing.get_context("spawn").Process(target=child)
            started.start()
            started.join()

        program = lp.Program("child")
        program.add_node(lp.PyNode(work), label="work")
        program.add_node(lp.PyNode(lp.wait_for_stop), label="other")
        lp.launch(program, KIND).wait()
        """,
    )
    assert "child of work/0" in said
    assert "child has seen the stop" in said


def test_a_program_of_a_node_has_the_same_script(tmp_path):
    said = run_as(
        tmp_path,
        "local_mp",
        """
        import dataclasses
        import kourou as lp

        @dataclasses.dataclass
        class Step:
            x: int

        class Echo:
            def back(self, step):
                assert type(step) is Step
                return step

        def inner(echo):
            print("inner has", echo.back(Step(7)))
            lp.stop()

        def outer():
            program = lp.Program("inner")
            echo = program.add_node(lp.CourierNode(Echo), label="echo")
            program.add_node(lp.PyNode(inner, echo), label="inner")
            lp.launch(program, KIND).wait()

        program = lp.Program("outer")
        program.add_node(lp.PyNode(outer), label="outer")
        lp.launch(program, KIND).wait()
        """,
    )
    assert "inner has Step(x=7)" in said


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_of_the_script_may_launch_what_the_script_defines(tmp_path, method):
    # Given a script whose functions and classes are multiprocessing's __mp_main__ in its children
    said = run_as(
        tmp_path,
        "local_mp",
        """
        import dataclasses
        import enum
        import functools
        import multiprocessing
        import kourou as lp

        class Kind(enum.Enum):
            A = 1

        @dataclasses.dataclass
        class Step:
            kind: Kind

            class Inner:
                pass

        @functools.lru_cache
        def double(x):
            return 2 * x

        class Echo:
            def back(self, step):
                assert type(step) is Step and step.kind is Kind.A
                return step, Step.Inner()

        def work(echo):
            step, inner = echo.back(Step(Kind.A))
            assert type(step) is Step and type(inner) is Step.Inner
            print("work has", step, double(4))
            lp.stop()

        def child():
            program = lp.Program("child")
            echo = program.add_node(lp.CourierNode(Echo), label="echo")
            program.add_node(lp.PyNode(work, echo), label="work")
            with lp.launch(program, KIND) as run:
                step, inner = echo.dereference().back(Step(Kind.A))
                assert type(step) is Step and type(inner) is Step.Inner
                run.wait()

        if __name__ == "__main__":
            # When one of them launches a program
            started = multiprocessing.get_context("METHOD").Process(target=child)
            started.start()
            started.join()
            print("child ended with", started.exitcode)
        """.replace("METHOD", method),
    )
    # Then its nodes have them, and they are the child's own
    assert "work has Step(kind=<Kind.A: 1>) 8" in said
    assert "child ended with 0" in said


def test_the_children_of_a_launcher_without_a_run_are_pythons_own(tmp_path):
    # Given a script with the guard that multiprocessing asks for, whose run has ended
    said = run_as(
        tmp_path,
        "local_mt",
        """
        import multiprocessing
        import kourou as lp

        print("top level of", __name__, flush=True)

        def child():
            print("child", flush=True)

        if __name__ == "__main__":
            program = lp.Program("ended")
            program.add_node(lp.PyNode(print), label="node")
            lp.launch(program, KIND).wait()
            # When it starts a child, then that imports the script, as always
            started = multiprocessing.get_context("spawn").Process(target=child)
            started.start()
            started.join()
        """,
    )
    assert "top level of __mp_main__" in said
    assert os.linesep + "child" in said


@BOTH
def test_kourou_call_shows_values_of_the_scripts_classes(tmp_path, kind):
    source = """
        import collections, dataclasses
        import kourou as lp

        Pair = collections.namedtuple("Pair", "a b")

        @dataclasses.dataclass
        class Step:
            x: int

        class Server:
            def get(self):
                return [Step(1), Pair(2, Step(3))]

        program = lp.Program("values")
        program.add_node(lp.CourierNode(Server), label="server")
        run = lp.launch(program, KIND)
        while run.nodes["server/0"].state is not lp.NodeState.READY:
            time.sleep(0.01)
        say("up")
        run.wait()
        """
    with Script(tmp_path, f"KIND = {kind!r}\n{textwrap.dedent(source)}") as launcher:
        launcher.expect("up")
        shown, listed = (
            subprocess.run(
                [sys.executable, "-m", "kourou.cli", "call", "-", "server", "get", *options],
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            ).stdout
            for options in ([], ["--json"])
        )
    pair = "Pair(a=2, b=Step(x=3))" if kind == "local_mp" else "Pair(2, Step(x=3))"
    assert shown == f"[Step(x=1), {pair}]\n"
    assert json.loads(listed)[0] == {"x": 1}
