"""What a node's process has of its launcher's, and what it says where it has nothing: a terminal."""

from __future__ import annotations

import pdb  # noqa: T100 - for what it says without a terminal
import sys
import time

import pytest

import kourou as lp
from e2e.launching import Script

pytestmark = pytest.mark.usefixtures("no_leaks")

WAIT_S = 20.0


def test_options_of_the_interpreter_are_the_launchers(tmp_path):
    # Given a launcher whose interpreter has options, as has one of its nodes.
    source = """
        def flags():
            return sys.flags.optimize, sys.flags.dev_mode, [w for w in sys.warnoptions if w.startswith("error")]

        def node():
            say(lp.get_context().name, flags())

        program = lp.Program("flags")
        program.add_node(lp.PyNode(node), label="plain")
        program.add_node(lp.PyNode(node), label="own")
        say("launcher", flags())
        own = {"own": lp.PythonProcess(interpreter_args=["-W", "error::UserWarning"])}
        lp.launch(program, "local_mp", local_resources=own).wait()
    """
    options = ["-O", "-X", "dev", "-W", "error::DeprecationWarning"]
    with Script(tmp_path, source, options=options) as launcher:
        # When they run, then one has the launcher's, and the other its own.
        assert launcher.end(within_s=30) == 0, launcher.errors
        launcher.expect(r"^launcher \(1, True, \['error::DeprecationWarning'\]\)")
        launcher.expect(r"plain/0 \(1, True, \['error::DeprecationWarning'\]\)")
        launcher.expect(r"own/0 \(0, False, \['error::UserWarning'\]\)")


class Asked:
    def zone(self):
        return time.tzname[0], time.strftime("%H", time.localtime(0))

    def encoding(self):
        import locale

        return locale.getpreferredencoding(do_setlocale=False).upper()


@pytest.fixture
def asked(request):
    """A client of a node with these variables."""
    program = lp.Program("variables")
    handle = program.add_node(lp.CourierNode(Asked), label="asked")
    resources = {"asked": lp.PythonProcess(env=request.param)}
    with lp.launch(program, "local_mp", local_resources=resources, terminal="output_to_files"):
        yield handle.dereference()


@pytest.mark.parametrize("asked", [{"TZ": "XYZ-5"}], indirect=True)
def test_a_node_has_the_time_zone_of_its_environment(asked):
    assert asked.zone() == ("XYZ", "05")


@pytest.mark.parametrize("asked", [{"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}], indirect=True)
def test_a_node_has_the_locale_of_its_environment(asked):
    assert asked.encoding() in {"ANSI_X3.4-1968", "US-ASCII", "646"}


def stop_at_breakpoint():
    breakpoint()  # noqa: T100 - the point


def ask():
    input("your name? ")


def trace():
    pdb.set_trace()  # noqa: T100 - the point


def read_to_the_end():
    assert (sys.stdin.read(), sys.stdin.mode, sys.stdin.fileno()) == ("", "r", 0)
    assert list(sys.stdin) == []


def break_elsewhere():
    sys.breakpointhook = print
    breakpoint()  # noqa: T100 - the point


@pytest.mark.parametrize("function", [stop_at_breakpoint, ask, trace])
def test_what_wants_a_terminal_says_what_to_do(function):
    program = lp.Program("terminal")
    program.add_node(lp.PyNode(function), label="node")
    run = lp.launch(program, "local_mp", terminal="output_to_files")
    with pytest.raises(lp.errors.ProgramFailed) as caught:
        run.wait(timeout_s=WAIT_S)
    told = "node/0 has no terminal: launch with local_mt to debug it, or to type"
    assert told in (run.folder / "logs" / "node" / "0.log").read_text()
    if function is not trace:  # which takes the end of its input for the wish to quit
        assert f"raised NoTerminal: {told}" in str(caught.value)


@pytest.mark.parametrize("function", [read_to_the_end, break_elsewhere])
def test_what_needs_no_terminal_works(function):
    program = lp.Program("terminal")
    program.add_node(lp.PyNode(function), label="node")
    lp.launch(program, "local_mp", terminal="output_to_files").wait(timeout_s=WAIT_S)


def test_a_debugger_that_the_environment_names_is_used():
    program = lp.Program("terminal")
    program.add_node(lp.PyNode(stop_at_breakpoint), label="node")
    resources = {"node": lp.PythonProcess(env={"PYTHONBREAKPOINT": "builtins.print"})}
    lp.launch(program, "local_mp", local_resources=resources, terminal="output_to_files").wait(timeout_s=WAIT_S)
