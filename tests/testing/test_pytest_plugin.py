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


@pytest.fixture
def outcome(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Runs tests given as text in a process of their own."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "")

    def run(*tests: str) -> pytest.RunResult:
        pytester.makepyfile(PRELUDE + "\n".join(tests))
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")

    return run


def test_a_program_is_stopped_with_its_test(outcome):
    result = outcome(
        """
@pytest.mark.parametrize("launch_type", [None, "test_mt", "test_mp"])
def test_it(launch, launch_type):
    program = program_of(lp.CourierNode(Server))
    run = launch(program, launch_type)
    assert str(run.plan.launch_type) == (launch_type or "test_mt")
    assert program.handle_to("node").dereference().ping() == "pong"
    launch(program_of(lp.PyNode(wait)), launch_type)
"""
    )

    result.assert_outcomes(passed=3)


def test_a_node_that_fails_fails_the_test(outcome):
    result = outcome(
        """
@pytest.mark.parametrize("launch_type", ["test_mt", "test_mp"])
def test_it(launch, launch_type):
    run = launch(program_of(lp.PyNode(fail)), launch_type)
    while not run.failures:
        time.sleep(0.01)

def test_another_is_not_blamed(launch):
    launch(program_of(lp.PyNode(wait)))
"""
    )

    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        ["*ProgramFailed: program 'tested' failed: node/0 raised ValueError: the disk is on fire*"]
    )


def test_what_the_node_did_is_told_before_what_the_test_ran_into(outcome):
    result = outcome(
        """
def test_it(launch):
    program = program_of(lp.CourierNode(Server))
    launch(program, "test_mp")
    program.handle_to("node").dereference().fail_for_good()
"""
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NodeExited*", "*direct cause*", "*node/0 exited with code 3*"])


def test_an_expected_failure_is_taken(outcome):
    result = outcome(
        """
def test_it(launch):
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
"""
    )

    result.assert_outcomes(passed=1, skipped=1, errors=1)
    assert result.ret == 1


def test_what_is_left_behind_is_an_error(outcome):
    result = outcome(
        """
import kourou.testing.pytest_plugin as plugin
plugin._GONE_WITHIN_S = 0.2

def leave_a_thread():
    threading.Thread(target=time.sleep, args=(30,), name="forgotten", daemon=True).start()

def test_it(launch):
    launch(program_of(lp.PyNode(leave_a_thread))).wait()
"""
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*left behind by the programs of this test:", "*thread forgotten"])


def test_a_pytest_without_programs_does_not_import_the_runtime(outcome):
    result = outcome("def test_it():\n    import sys\n    assert 'kourou.runtime.launch.launch' not in sys.modules\n")

    result.assert_outcomes(passed=1)
