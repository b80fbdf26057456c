"""Every way in which a node can end, and what the launcher makes of it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from pathlib import Path

import kourou as lp
from kourou.runtime.launchers.threads import ThreadLauncher
from optional import pytest
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")

LAUNCH_TYPES = ["local_mt", "local_mp"]
QUICK = lp.StopTimeline(ask_s=0.2, interrupt_s=0.5, terminate_s=0.5)


class Raising(RuntimeError):
    pass


def raise_error():
    raise Raising("no such env: 'Köln'\nsecond line")


def raise_at_length():
    raise Raising("x" * (8 << 20))


def raise_half_a_character():
    raise Raising("\ud83d")


class Unprintable(Exception):
    def __str__(self):
        raise TypeError("no words")


def raise_unprintable():
    raise Unprintable


def exit_unprintably():
    raise SystemExit(Unprintable())


def hook_that_fails():
    try:
        sys.excepthook = lambda *_: sys.exit(5)
        raise Raising("under a hook")
    finally:
        if lp.get_context().launch_type == "local_mt":
            sys.excepthook = sys.__excepthook__


def exit_with(code):
    sys.exit(code)


def exit_hard(code):
    print("before the end", flush=True)
    os._exit(code)


def kill_self(number):
    os.kill(os.getpid(), number)
    threading.Event().wait()


def segfault():
    print("about to fall")
    ctypes.string_at(0)


def interrupt_self():
    raise KeyboardInterrupt


class RaisesInConstructor:
    def __init__(self):
        raise Raising("in the constructor")


class RaisesInRun:
    def run(self):
        raise Raising("in run")


def return_normally():
    return "a result that nobody wants"


# name → (node, state, cause, exit code, signal); the same everywhere unless a process is needed.
ANYWHERE = {
    "returns": (lambda: lp.PyNode(return_normally), "FINISHED", "finished", 0, None),
    "exits-0": (lambda: lp.PyNode(exit_with, 0), "FINISHED", "finished", 0, None),
    "exits-none": (lambda: lp.PyNode(exit_with, None), "FINISHED", "finished", 0, None),
    "exits-3": (lambda: lp.PyNode(exit_with, 3), "FAILED", "exited with code 3", 3, None),
    "exits-text": (lambda: lp.PyNode(exit_with, "last words"), "FAILED", "exited with code 1", 1, None),
    "raises": (lambda: lp.PyNode(raise_error), "FAILED", "raised Raising: no such env: 'Köln'", 1, None),
    "raises-in-constructor": (
        lambda: lp.CourierNode(RaisesInConstructor),
        "FAILED",
        "raised Raising: in the constructor",
        1,
        None,
    ),
    "raises-in-run": (lambda: lp.CourierNode(RaisesInRun), "FAILED", "raised Raising: in run", 1, None),
    "raises-at-length": (lambda: lp.PyNode(raise_at_length), "FAILED", "raised Raising: xxx", 1, None),
    "raises-half": (lambda: lp.PyNode(raise_half_a_character), "FAILED", "raised Raising: \\ud83d", 1, None),
    "raises-unprintable": (lambda: lp.PyNode(raise_unprintable), "FAILED", "raised Unprintable, whose", 1, None),
    "exits-unprintably": (lambda: lp.PyNode(exit_unprintably), "FAILED", "exited with code 1", 1, None),
    "raises-under-hook": (lambda: lp.PyNode(hook_that_fails), "FAILED", "raised Raising: under a hook", 1, None),
    "interrupts": (lambda: lp.PyNode(interrupt_self), "FAILED", "raised KeyboardInterrupt", 1, None),
}
IN_A_PROCESS = {
    "os._exit-0": (lambda: lp.PyNode(exit_hard, 0), "FAILED", "exited with code 0 before it had finished", 0, None),
    "os._exit-3": (lambda: lp.PyNode(exit_hard, 3), "FAILED", "exited with code 3", 3, None),
    "segfaults": (lambda: lp.PyNode(segfault), "FAILED", "was killed by SIGSEGV", None, "SIGSEGV"),
    "aborts": (lambda: lp.PyNode(os.abort), "FAILED", "was killed by SIGABRT", None, "SIGABRT"),
    "killed": (lambda: lp.PyNode(kill_self, signal.SIGKILL), "FAILED", "was killed by SIGKILL", None, "SIGKILL"),
    "terminated": (lambda: lp.PyNode(kill_self, signal.SIGTERM), "FAILED", "exited with code 143", 143, None),
}
LAST_LINES = {
    "exits-text": "last words",
    "raises": "Raising: no such env: 'Köln'",
    "raises-in-constructor": "in __init__",
    "raises-in-run": "in run",
    "os._exit-3": "before the end",
    "segfaults": "Segmentation fault",
}


@pytest.fixture(scope="module", params=LAUNCH_TYPES)
def ended_run(request, tmp_path_factory):
    """A program in which every node ends in another way; failures of its groups are ignored, so all are seen."""
    cases = {**ANYWHERE, **(IN_A_PROCESS if request.param == "local_mp" else {})}
    program = lp.Program("ways-to-end")
    for label, (make, *_) in cases.items():
        with program.group(label, on_failure="ignore"):
            program.add_node(make())
    run = lp.launch(program, request.param, run_dir=tmp_path_factory.mktemp("ended"), terminal="output_to_files")
    run.wait(timeout_s=WAIT_S)
    return run, cases


def test_each_end_is_recorded_with_its_state_cause_code_and_signal(ended_run):
    run, cases = ended_run
    got = {}
    wanted = {}
    for label, (_, state, cause, code, number) in cases.items():
        record = run.nodes[f"{label}/0"].exit
        cut = record.cause.split("\n")[0]
        got[label] = (record.state, cut if cut.startswith(cause) else record.cause, record.code, record.signal)
        wanted[label] = (state, cut if cut.startswith(cause) else cause, code, number)
    assert got == wanted


def test_the_last_lines_of_each_failed_node_tell_why(ended_run):
    run, cases = ended_run
    for label in cases.keys() & LAST_LINES.keys():
        record = run.nodes[f"{label}/0"].exit
        log = Path(record.log_file).read_text(encoding="utf-8")
        assert LAST_LINES[label] in log, label
        if run.plan.launch_type == "local_mp":
            assert LAST_LINES[label] in "\n".join(record.last_lines), label


@pytest.mark.parametrize("ended_run", ["local_mp"], indirect=True)  # in a thread it would end the launcher itself
def test_a_segfault_leaves_the_python_stack_in_the_last_lines(ended_run):
    run, _ = ended_run
    lines = "\n".join(run.nodes["segfaults/0"].exit.last_lines)
    assert "about to fall" in lines
    assert "Fatal Python error: Segmentation fault" in lines
    assert "in segfault" in lines


def test_ignored_failures_do_not_fail_the_program(ended_run):
    run, _ = ended_run
    assert run.ended
    assert run.failures == ()


def test_every_end_is_in_the_events_of_the_run(ended_run):
    run, cases = ended_run
    events = [json.loads(line) for line in (run.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    exits = {event["node"]: event for event in events if event["event"] == "exit"}
    assert exits.keys() == {f"{label}/0" for label in cases}
    assert all(exits[f"{label}/0"]["state"] == state for label, (_, state, *_) in cases.items())


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_failure_ends_the_program_and_wait_raises_with_all_that_a_person_needs(launch_type):
    # Given a program of which one node fails while another one, that polls, works on.
    program = lp.Program("failing")
    program.add_node(lp.PyNode(lp.wait_for_stop), label="good")
    program.add_node(lp.CourierNode(RaisesInRun), label="bad one")
    run = lp.launch(program, launch_type, stop_timeline=QUICK)
    # When it is waited for.
    with pytest.raises(lp.errors.ProgramFailed) as caught:
        run.wait(timeout_s=WAIT_S)
    # Then the error names the node, what it raised and where its log is; the other node has finished.
    message = str(caught.value)
    assert "'failing'" in message
    assert "bad one/0 raised Raising: in run" in message
    assert 'raise Raising("in run")' in message  # the traceback
    assert str(run.folder / "logs" / "bad one" / "0.log") in message
    assert [record.node for record in caught.value.records] == ["bad one/0"]
    assert run.nodes["good/0"].state is lp.NodeState.FINISHED
    assert run.ended


def test_a_second_failure_is_listed_behind_the_first():
    # Given two nodes of which the second fails because the program ends.
    def fail_on_stop():
        lp.wait_for_stop()
        raise Raising("at the end")

    program = lp.Program("failing-twice")
    program.add_node(lp.PyNode(fail_on_stop), label="second")
    program.add_node(lp.PyNode(raise_error), label="first")
    # When it is waited for.
    with pytest.raises(lp.errors.ProgramFailed) as caught:
        lp.launch(program, "local_mt", stop_timeline=QUICK).wait(timeout_s=WAIT_S)
    # Then both are told, in order.
    assert [record.node for record in caught.value.records] == ["first/0", "second/0"]
    assert "then failed: second/0 raised Raising: at the end" in str(caught.value)


def test_wait_without_raise_error_returns_and_the_failure_is_in_the_run():
    program = lp.Program("failing-quietly")
    program.add_node(lp.PyNode(raise_error), label="bad")
    run = lp.launch(program, "local_mt", stop_timeline=QUICK)
    run.wait(raise_error=False, timeout_s=WAIT_S)
    assert [record.node for record in run.failures] == ["bad/0"]


def test_waiting_for_one_label_hears_of_the_failure_of_another():
    program = lp.Program("failing-elsewhere")
    program.add_node(lp.PyNode(lp.wait_for_stop), label="good")
    program.add_node(lp.PyNode(raise_error), label="bad")
    with pytest.raises(lp.errors.ProgramFailed, match="bad/0"):
        lp.launch(program, "local_mt", stop_timeline=QUICK).wait(["good"], timeout_s=WAIT_S)


class Fragile:
    def fail(self, text):
        raise Raising(text)

    def exit(self):
        sys.exit(4)

    def ping(self):
        return "pong"


def test_whoever_waits_for_a_run_that_is_lost_to_a_fault_of_its_launcher_is_told(monkeypatch):
    # given a launcher that breaks, as nothing of a program's makes it
    def broken(launcher, name, attempt):
        raise OSError("broken")

    monkeypatch.setattr(ThreadLauncher, "start", broken)
    program = lp.Program("lost")
    program.add_node(lp.PyNode(lp.wait_for_stop), label="calm")
    # when somebody waits, or has waited in vain
    with (
        pytest.raises(lp.errors.LaunchError, match="lost to a fault of kourou itself") as caught,
        lp.launch(program, "local_mt") as run,
    ):
        run.wait(timeout_s=WAIT_S)
    # then it hears why
    assert str(caught.value.__cause__) == "broken"
    assert run.finish_at_exit() is None  # it was told


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_an_error_of_a_handler_goes_to_the_caller_and_the_node_lives_on(launch_type):
    # Given a node with methods that raise.
    program = lp.Program("fragile")
    handle = program.add_node(lp.CourierNode(Fragile), label="fragile")
    with lp.launch(program, launch_type, stop_timeline=QUICK) as run:
        client = handle.dereference()
        # When they are called.
        with pytest.raises(Raising, match="first") as first:
            client.fail("first")
        with pytest.raises(lp.errors.RemoteError):
            client.exit()
        with pytest.raises(AttributeError, match="ping"):
            client.no_such_method()  # type: ignore[attr-defined]  # as it should
        # Then the caller got the error with its own type, and the node answers still.
        assert isinstance(first.value, lp.errors.RemoteError)
        assert client.ping() == "pong"
        assert run.nodes["fragile/0"].state is lp.NodeState.READY
    assert run.failures == ()


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_an_unhandled_remote_error_fails_the_caller_and_says_who_raised(launch_type):
    # Given a node that calls a method that raises, and does not catch it.
    def call(client):
        client.fail("for the caller")

    program = lp.Program("remote-error")
    handle = program.add_node(lp.CourierNode(Fragile), label="fragile")
    program.add_node(lp.PyNode(call, handle), label="caller")
    # When it is waited for.
    with pytest.raises(lp.errors.ProgramFailed) as caught:
        lp.launch(program, launch_type, stop_timeline=QUICK).wait(timeout_s=WAIT_S)
    # Then the caller failed, and the remote traceback is part of the message.
    assert [record.node for record in caught.value.records] == ["caller/0"]
    assert "for the caller" in str(caught.value)
    assert "raise Raising(text)" in str(caught.value)


def test_a_node_that_is_killed_with_sigkill_fails_the_program():
    # Given two running nodes.
    program = lp.Program("killed")
    with program.group("node"):
        for _ in range(2):
            program.add_node(lp.PyNode(lp.wait_for_stop))
    run = lp.launch(program, "local_mp", stop_timeline=QUICK)
    until(lambda: all(record.state is lp.NodeState.READY for record in run.nodes.values()), WAIT_S)
    # When one is killed.
    pid = run.nodes["node/1"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    # Then the program fails, and names it with its process.
    with pytest.raises(lp.errors.ProgramFailed, match=rf"node/1 was killed by SIGKILL \(pid {pid} on "):
        run.wait(timeout_s=WAIT_S)
    assert run.nodes["node/0"].state is lp.NodeState.FINISHED
