"""The fixture ``launch``, in a pytest of its own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

PRELUDE = """
import os, threading, time
import pytest
import kourou as lp
from kourou.errors import ProgramFailed

def fail():
    raise ValueError("the disk is on fire")

def wait():
    lp.wait_for_stop()

class Server:
    def fail_for_good(self):
        os._exit(3)
    def ping(self):
        return "pong"

def program_of(node):
    program = lp.Program("tested")
    program.add_node(node, label="node")
    return program
"""


INNER = (
    PRELUDE
    + """
@pytest.mark.parametrize("launch_type", [None, "test_mt", "test_mp"])
def test_stopped_with_its_test(launch, launch_type):
    program = program_of(lp.CourierNode(Server))
    run = launch(program, launch_type)
    assert str(run.plan.launch_type) == (launch_type or "test_mt")
    assert program.handle_to("node").dereference().ping() == "pong"
    launch(program_of(lp.PyNode(wait)), launch_type)

@pytest.mark.parametrize("launch_type", ["test_mt", "test_mp"])
def test_with_a_node_that_fails(launch, launch_type):
    run = launch(program_of(lp.PyNode(fail)), launch_type)
    while not run.failures:
        time.sleep(0.01)

def test_another_is_not_blamed(launch):
    launch(program_of(lp.PyNode(wait)))

def test_that_ran_into_what_the_node_did(launch):
    program = program_of(lp.CourierNode(Server))
    launch(program, "test_mp")
    program.handle_to("node").dereference().fail_for_good()

def test_that_expects_the_failure(launch):
    with pytest.raises(ProgramFailed, match="on fire"):
        launch(program_of(lp.PyNode(fail))).wait()

def test_skipped(launch):
    launch(program_of(lp.PyNode(wait)))
    pytest.skip("later")

@pytest.fixture
def broken(launch):
    launch(program_of(lp.PyNode(wait)))
    raise KeyError("broken")

def test_not_begun(broken):
    pass

def leave_a_thread():
    threading.Thread(target=time.sleep, args=(30,), name="forgotten", daemon=True).start()

def test_that_leaves_a_thread(launch, monkeypatch):
    monkeypatch.setattr("kourou.testing.pytest_plugin._GONE_WITHIN_S", 0.2)
    launch(program_of(lp.PyNode(leave_a_thread))).wait()
"""
)


def run_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tests: str) -> pytest.RunResult:
    monkeypatch.setenv("PYTEST_ADDOPTS", "")
    pytester.makepyfile(tests)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", "-rA")


def test_a_program_lives_and_fails_with_its_test(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_pytest(pytester, monkeypatch, INNER)
    assert result.ret == 1
    ends = {
        "PASSED": (
            *("stopped_with_its_test[None]", "stopped_with_its_test[test_mt]", "stopped_with_its_test[test_mp]"),
            *("that_expects_the_failure", "another_is_not_blamed", "that_leaves_a_thread"),
        ),
        "FAILED": (
            *("with_a_node_that_fails[test_mt]", "with_a_node_that_fails[test_mp]"),
            "that_ran_into_what_the_node_did",
        ),
        "ERROR": ("not_begun", "that_leaves_a_thread"),
    }
    for end, names in ends.items():
        for name in names:
            result.stdout.fnmatch_lines([f"{end} *::test_{name.replace('[', '[[]')}*"])
    result.assert_outcomes(passed=6, failed=3, errors=2, skipped=1)
    result.stdout.fnmatch_lines(
        ["*ProgramFailed: program 'tested' failed: node/0 raised ValueError: the disk is on fire*"]
    )
    # what the node did is told before what the test ran into
    result.stdout.fnmatch_lines(["*NodeExited*", "*direct cause*", "*node/0 exited with code 3*"])
    result.stdout.fnmatch_lines(["*left behind by the programs of this test:", "*thread forgotten"])


def test_a_pytest_without_programs_does_not_import_the_runtime(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = "def test_it():\n    import sys\n    assert 'kourou.runtime.launch.launch' not in sys.modules\n"
    run_pytest(pytester, monkeypatch, tests).assert_outcomes(passed=1)
