"""Compiling: the plan as data, and every mistake before anything starts."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
from typing import Any, cast

import pytest

import kourou as lp
from kourou.cpython import interpreter_options


class Server:
    def __init__(self, *args, **kwargs):
        pass


def run(*args, **kwargs):
    pass


def _problems(program, launch_type="local_mp", **options):
    with pytest.raises(lp.errors.PlanError) as caught:
        lp.compile_program(program, launch_type, **options)
    return caught.value.problems


def _program(*args, label="node", **kwargs):
    program = lp.Program("p")
    program.add_node(lp.PyNode(run, *args, **kwargs), label=label)
    return program


def test_the_plan_as_json_is_what_it_was():
    # Given a program with an edge, a policy and resources.
    program = lp.Program("gölden")
    server = program.add_node(lp.CourierNode(Server), label="server")
    with program.group("the actors", on_failure=lp.Restart(max_times=2, window_s=60.0, backoff_s=1.0)):
        for index in range(2):
            program.add_node(lp.PyNode(run, server, index))
    resources = {"the actors": lp.PythonProcess(args={"n": 1}, interpreter_args={"X": "dev"}, env=lambda i: {"I": i})}
    # When it is compiled, then its JSON is this.
    plan = lp.compile_program(
        program, "local_mp", local_resources=resources, terminal="output_to_files", stop=lp.StopTimeline(ask_s=1.0)
    )
    data = json.loads(plan.to_json())
    payloads = [node["process"].pop("payload") for node in data["nodes"]]
    common: dict[str, object] = {
        "interpreter": sys.executable,
        "cwd": os.getcwd(),  # noqa: PTH109 - a string is compared
        "cpus": None,
        "memory_bytes": None,
        "merge_stderr": True,
        "preload": [],
    }

    def actor(index):
        return {
            "name": f"the actors/{index}",
            "kind": "PyNode(run)",
            "inputs": ["server/0"],
            "serves_only": False,
            "polls_while_starting": False,
            "on_failure": {"max_times": 2, "window_s": 60.0, "backoff_s": 1.0},
            "placement": "own",
            "parent": None,
            "process": {
                **common,
                "name": f"the actors/{index}",
                "argv": [sys.argv[0], "--n=1"],
                "interpreter_args": ["-Xdev"],
                "env": {"I": str(index)},
            },
        }

    assert data == {
        "program": "gölden",
        "launch_type": "local_mp",
        "terminal": "output_to_files",
        "stop": {"ask_s": 1.0, "interrupt_s": 3.0, "terminate_s": 2.0},
        "nodes": [
            {
                "name": "server/0",
                "kind": "CourierNode(Server)",
                "inputs": [],
                "serves_only": True,
                "polls_while_starting": False,
                "on_failure": "fail",
                "placement": "own",
                "parent": None,
                "process": {
                    **common,
                    "name": "server/0",
                    "argv": [sys.argv[0]],
                    "interpreter_args": list(interpreter_options()),
                    "env": {},
                },
            },
            actor(0),
            actor(1),
        ],
    }
    assert all(
        payload.keys() == {"stream", "buffers", "script", "script_buffers", "size_bytes"} for payload in payloads
    )


def test_compiling_twice_gives_equal_plans_and_changes_nothing():
    program = _program(1, [2], x="3")
    first, second = (lp.compile_program(program, "local_mp") for _ in range(2))
    assert first == second
    assert first.to_json() == second.to_json()
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.program = "other"  # type: ignore[misc]  # that is what is tested
    assert program.get_all_nodes()[0].run_id is None


def test_threads_need_no_processes_and_may_have_arguments_that_cannot_be_pickled():
    plan = lp.compile_program(_program(threading.Lock()), "local_mt")
    assert plan.nodes[0].process is None
    assert plan.blobs == {}


@pytest.mark.parametrize(
    ("launch_type", "options"),
    [("local_mp", {}), ("test_mp", {}), ("test_mt", {}), ("local_mt", {"serialize_py_nodes": True})],
    ids=["local_mp", "test_mp", "test_mt", "asked-for"],
)
def test_what_cannot_be_pickled_is_named_by_its_path(launch_type, options):
    program = lp.Program("p")
    program.add_node(lp.PyNode(run, 0, 1, {"env": threading.Lock()}), label="actor")
    (problem,) = _problems(program, launch_type, **options)
    assert problem.startswith("actor/0 args[2]['env'] cannot be pickled: ")
    assert "lp.Deferred" in problem


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda bad: lp.PyNode(run, key=[bad]), "kwargs['key'][0]"),
        (lambda bad: lp.CourierNode(Server, bad), "args[0]"),
        (lambda bad: lp.PyNode(run, lp.Deferred(Server, (1, bad))), "args[0].args[0][1]"),
        (lambda bad: lp.PyNode(lambda: bad), "function (its variable 'bad')"),
    ],
    ids=["keyword", "class", "deferred", "closure"],
)
def test_it_is_found_wherever_it_hides(make, path):
    program = lp.Program("p")
    program.add_node(make(threading.Lock()), label="a b")
    (problem,) = _problems(program)
    assert problem.startswith(f"a b/0 {path} cannot be pickled: ")


def test_an_argument_whose_pickling_raises_oddly_is_a_problem_too():
    class Odd:
        def __reduce__(self):
            raise KeyError("odd")

        def __repr__(self):
            return "Odd" * 1000

    (problem,) = _problems(_program(Odd()))
    assert "KeyError" in problem
    assert len(problem) < 500


def test_an_empty_program_is_a_mistake():
    (problem,) = _problems(lp.Program("void"))
    assert problem.startswith("program 'void' is empty")


def test_all_mistakes_are_told_at_once():
    program = _program(threading.Lock(), label="actor")
    other = lp.Program("other").add_node(lp.CourierNode(Server), label="server")
    program.add_node(lp.PyNode(run, other, program.handle_to("nowhere")), label="caller")
    resources: Any = {"actr": lp.PythonProcess(), "actor": {"env": {}}}
    problems = _problems(program, local_resources=resources, terminal="xterm")
    text = "\n".join(problems)
    assert "local_resources['actr']: the program has no such label; did you mean 'actor'?" in text
    assert "Launch config for actor must be a PythonProcess." in text
    assert "terminal='xterm' is unknown" in text
    assert "caller/0 args[0] is a handle of server/0, which is not in program 'p'" in text
    assert "caller/0 args[1] is a handle of nowhere/0, which is not in program 'p'" in text
    assert "actor/0 args[0] cannot be pickled" in text
    with pytest.raises(lp.errors.PlanError, match="6 mistakes in the program"):
        lp.compile_program(program, "local_mp", local_resources=resources, terminal="xterm")


def test_unpicklable_arguments_of_several_nodes_are_told_at_once():
    program = _program(threading.Lock(), label="one")
    program.add_node(lp.PyNode(run, threading.Lock()), label="two")
    assert [problem.split()[0] for problem in _problems(program)] == ["one/0", "two/0"]


def test_a_handle_of_a_node_that_serves_nothing_is_a_mistake():
    program = lp.Program("p")
    handle = program.add_node(lp.PyNode(run), label="function")
    program.add_node(lp.PyNode(run, handle), label="caller")
    (problem,) = _problems(program, "local_mt")
    assert "caller/0 args[0] is a handle of function/0, a PyNode, which serves no methods" in problem


@pytest.mark.parametrize("variable", [{"A=B": 1}, {"A": None}, {"A": b"1"}, {1: "a"}, {"A": "a\0b"}])
def test_a_variable_that_no_environment_can_hold_is_a_mistake_of_its_node(variable):
    resources = {"node": lp.PythonProcess(env=lambda index: variable)}
    (problem,) = _problems(_program(), local_resources=resources)
    assert "node/0" in problem
    ((name, value),) = variable.items()
    assert f"{name!r}={value!r} cannot be an environment variable" in problem


def test_the_launch_type_comes_from_the_argument_the_environment_or_the_default(monkeypatch):
    monkeypatch.delenv("KOUROU_LAUNCH_TYPE", raising=False)
    assert lp.compile_program(_program()).launch_type is lp.LaunchType.LOCAL_MULTI_THREADING
    monkeypatch.setenv("KOUROU_LAUNCH_TYPE", "local_mp")
    assert lp.compile_program(_program()).launch_type is lp.LaunchType.LOCAL_MULTI_PROCESSING
    assert lp.compile_program(_program(), lp.LaunchType.TEST_MULTI_THREADING).launch_type == "test_mt"
    monkeypatch.setenv("KOUROU_LAUNCH_TYPE", "vertex_ai")
    with pytest.raises(lp.errors.PlanError, match="KOUROU_LAUNCH_TYPE='vertex_ai' is not a launch type"):
        lp.compile_program(_program())


def test_launch_starts_nothing_when_there_are_mistakes(runs_dir):
    void = lp.Program("void")
    wrongs: list[Any] = [void, "no program", [], [void, void]]
    for wrong in wrongs:
        with pytest.raises(lp.errors.PlanError):
            lp.launch(wrong, "local_mp")
    with pytest.raises(lp.errors.PlanError, match="XManager"):
        lp.launch(_program(), "local_mp", cast("None", {"node": object()}))
    assert not runs_dir.exists()


def test_of_a_sequence_of_programs_the_first_is_launched():
    first = _program()
    run_ = lp.launch([first, lp.Program("void")], "local_mt")
    run_.wait(timeout_s=20)
    assert run_.plan.program == "p"


def test_resources_are_said_where_the_group_is_and_a_launch_has_the_last_word():
    program = lp.Program("p")
    with program.group("actor", resources=lp.PythonProcess(env=lambda i: {"WHO": f"actor {i}"})):
        program.add_node(lp.PyNode(run))
        program.add_node(lp.PyNode(run))
    with program.group("nobody", resources=lp.Resources(gpus=9)):
        pass

    def who(**options):
        plan = lp.compile_program(program, "local_mp", **options)
        return [dict(node.process.env)["WHO"] for node in plan.nodes if node.process is not None]

    assert who() == ["actor 0", "actor 1"]
    assert who(local_resources={"actor": lp.PythonProcess(env={"WHO": "all"})}) == ["all", "all"]
