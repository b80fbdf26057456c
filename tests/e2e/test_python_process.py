"""What local_resources ask for is what a node's process has."""

from __future__ import annotations

import os
import sys
import warnings

import kourou as lp
from kourou import courier
from optional import pytest
from polling import WAIT_S


class Asked:
    """Tells what its process was given."""

    def argv(self):
        return sys.argv[1:]

    def env(self, name):
        return os.environ.get(name)

    def raw_env(self, name):
        return os.environb.get(os.fsencode(name))

    def flags(self):
        return {
            "dev": sys.flags.dev_mode,
            "optimize": sys.flags.optimize,
            "filters": [str(action) for action, *_ in warnings.filters[:3]],
            "asserts": self._asserts(),
            "warnoptions": sys.warnoptions,
            "utf8": sys.flags.utf8_mode,
        }

    def _asserts(self):
        try:
            assert False  # noqa: B011, PT015 - that is what -O takes out
        except AssertionError:
            return True
        return False

    def cwd(self):
        return os.getcwd()  # noqa: PTH109 - a string travels

    def stdin(self):
        return sys.stdin.read()


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """A program whose groups ask for different things, and clients of its nodes."""
    resources = {
        "args": lp.PythonProcess(
            args={"name": "a value", "count": 3, "flag": True, "off": False, "many": ["x", "y z"], "q": 'it\'s "&!"'}
        ),
        "env": lp.PythonProcess(
            env=lambda index: {"REPLICA": index, "HOSTILE": "a b'c\"$(x)\n=", "EMPTY": "", "PATHLIKE": os.curdir}
        ),
        "dev": lp.PythonProcess(interpreter_args={"X": "dev", "W": "error"}),
        "optimized": lp.PythonProcess(interpreter_args=["-O", "-X", "utf8"]),
        "start": lp.PythonProcess(env={"PYTHONWARNINGS": "ignore"}),
    }
    program = lp.Program("resources")
    handles = {}
    for label in [*resources, "plain"]:
        with program.group(label):
            handles[label] = [program.add_node(lp.CourierNode(Asked)) for _ in range(2 if label == "env" else 1)]
    run = lp.launch(program, "local_mp", local_resources=resources, run_dir=tmp_path_factory.mktemp("runs"))
    made = {label: [handle.dereference() for handle in several] for label, several in handles.items()}
    yield made
    for several in made.values():
        for client in several:
            courier.close(client)
    run.stop()
    assert run.failures == ()


def test_args_become_arguments(clients):
    assert clients["args"][0].argv() == [
        "--name=a value",
        "--count=3",
        "--flag",
        "--nooff",
        "--many=x",
        "--many=y z",
        '--q=it\'s "&!"',
    ]
    assert clients["plain"][0].argv() == []


def test_env_may_be_a_function_of_the_replica(clients):
    assert [client.env("REPLICA") for client in clients["env"]] == ["0", "1"]
    assert clients["env"][0].env("HOSTILE") == "a b'c\"$(x)\n="
    assert clients["env"][0].env("EMPTY") == ""
    assert clients["env"][0].env("PATHLIKE") == "."
    assert clients["plain"][0].env("REPLICA") is None


def test_the_launcher_s_environment_and_folder_are_inherited(clients):
    assert clients["plain"][0].env("PATH") == os.environ["PATH"]
    assert clients["plain"][0].cwd() == os.getcwd()  # noqa: PTH109 - as above


def test_interpreter_args_reach_the_interpreter(clients):
    dev = clients["dev"][0].flags()
    assert dev["dev"] is True
    assert "error" in dev["warnoptions"]
    optimized = clients["optimized"][0].flags()
    assert (optimized["optimize"], optimized["asserts"], optimized["utf8"]) == (1, False, 1)
    plain = clients["plain"][0].flags()
    assert (plain["dev"], plain["optimize"], plain["asserts"]) == (False, 0, True)


def test_variables_that_only_a_starting_interpreter_reads_are_read(clients):
    assert "ignore" in clients["start"][0].flags()["warnoptions"]
    assert clients["plain"][0].flags()["warnoptions"] == []


def test_standard_input_of_a_node_is_empty(clients):
    assert clients["plain"][0].stdin() == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"X": "importtime", "c": "print(1)"}, "'-cprint"),
        (["-m", "http.server"], "'-m'"),
        (["--help"], "'--help'"),
    ],
    ids=["command", "module", "help"],
)
def test_options_that_would_run_something_else_are_refused(options, message):
    with pytest.raises(lp.errors.GraphError, match=message):
        lp.PythonProcess(interpreter_args=options)


def test_an_interpreter_that_cannot_start_is_a_failure_with_its_words():
    program = lp.Program("no-interpreter")
    program.add_node(lp.PyNode(print, "never"), label="node")
    run = lp.launch(
        program, "local_mp", local_resources={"node": lp.PythonProcess(interpreter_args=["-X", "frozen_modules=what"])}
    )
    with pytest.raises(lp.errors.ProgramFailed) as caught:
        run.wait(timeout_s=WAIT_S)
    assert caught.value.records[0].node == "node/0"
    assert "could not start" in str(caught.value)
    assert "frozen_modules" in str(caught.value)
