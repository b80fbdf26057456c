"""What a node's process has of its launcher's, and what it says where it has nothing: a terminal."""

from __future__ import annotations

import json
import pdb  # noqa: T100 - for what it says without a terminal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import kourou as lp
from cli.commands import kourou
from e2e.launching import Script
from optional import pytest
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")


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


def hold_a_value():
    value = 41
    breakpoint()  # noqa: T100 - the point
    value += 1
    print(f"went on with {value}")


class Debugger:
    """As much of one as it takes: the Debug Adapter Protocol, over a socket."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), WAIT_S)
        self._file = self._socket.makefile("rb")

    def ask(self, command, **arguments) -> Any:
        """What the node answers; an attach is answered later."""
        body = json.dumps({"seq": 1, "type": "request", "command": command, "arguments": arguments}).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return None if command == "attach" else self.hear("command", command)

    def hear(self, key, value) -> Any:
        """The next message of this kind."""
        while True:
            size = 0
            while line := self._file.readline().strip():
                size = int(line.partition(b":")[2]) if line.lower().startswith(b"content-length") else size
            message = json.loads(self._file.read(size))
            if message.get(key) == value and message["type"] != "request":
                return message.get("body")

    def close(self):
        self._file.close()
        self._socket.close()


def test_a_breakpoint_waits_for_a_debugger_where_that_was_asked_for():
    pytest.importorskip("debugpy")
    program = lp.Program("debugged")
    program.add_node(lp.PyNode(hold_a_value), label="node")
    env = {"PYTHONBREAKPOINT": "kourou.wait_for_debugger", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    resources = {"node": lp.PythonProcess(env=env)}
    run = lp.launch(program, "local_mp", local_resources=resources, terminal="output_to_files")
    log = run.folder / "logs" / "node" / "0.log"
    until(lambda: log.exists() and "node/0 waits for a debugger, at " in log.read_text(), WAIT_S)
    until(lambda: "breakpoint" in [one.kind for one in run.doctor().findings], WAIT_S)

    told = kourou("attach", run.run_id, "node", "--json").json

    debugger = Debugger(told["port"])
    try:
        debugger.ask("initialize", adapterID="test", pathFormat="path")
        debugger.ask("attach", **told["vscode"])
        debugger.hear("event", "initialized")
        debugger.ask("configurationDone")
        thread = debugger.hear("event", "stopped")["threadId"]
        top = debugger.ask("stackTrace", threadId=thread)["stackFrames"][0]
        assert (top["name"], Path(top["source"]["path"]).name) == ("hold_a_value", "test_inherited.py")
        debugger.ask("continue", threadId=thread)
        run.wait(timeout_s=WAIT_S)
        assert "went on with 42" in log.read_text()
    finally:
        debugger.close()
