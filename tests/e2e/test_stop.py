"""Stopping: who may ask for it, how it insists, and that it ends what it should and nothing else."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import kourou as lp
from e2e.launching import Script
from kourou.runtime.context import context
from kourou.runtime.process import supervisor
from optional import pytest
from polling import WAIT_S, until

LAUNCH_TYPES = ["local_mt", "local_mp"]
NEVER = lp.StopTimeline(ask_s=60.0)  # whoever ends, ended because it was asked


class Stoppable:
    """Ends its program in every way that there is."""

    def stop(self):
        lp.stop("a handler asked")

    def stop_in_thread(self):
        thread = threading.Thread(target=lp.stop, args=("a thread of a handler asked",))
        thread.start()
        thread.join()

    def is_stopping(self):
        return lp.stop_event().is_set()


def stop_from_main():
    lp.stop("the main thread asked")


def stop_from_thread():
    thread = threading.Thread(target=lp.stop, args=("a user's thread asked",))
    thread.start()
    thread.join()
    assert lp.wait_for_stop(WAIT_S)


def call(client, method):
    getattr(client, method)()
    assert lp.wait_for_stop(WAIT_S)


def call_stopper(stopper):
    stopper()


def _node(kind, server):
    return {
        "main": lambda: lp.PyNode(stop_from_main),
        "thread": lambda: lp.PyNode(stop_from_thread),
        "handler": lambda: lp.PyNode(call, server, "stop"),
        "thread-of-handler": lambda: lp.PyNode(call, server, "stop_in_thread"),
        "stopper": lambda: lp.PyNode(call_stopper, lp.make_program_stopper("local_mp")),
    }[kind]()


REASONS = {
    "main": ("the main thread asked", "asker/0"),
    "thread": ("a user's thread asked", "asker/0"),
    "handler": ("a handler asked", "server/0"),
    "thread-of-handler": ("a thread of a handler asked", "server/0"),
    "stopper": ("a program stopper was called", "asker/0"),
}


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
@pytest.mark.parametrize("kind", REASONS)
def test_stop_works_from_every_thread_of_a_node(kind, launch_type):
    # Given a program with a server, a node that polls, and one that asks for the end.
    program = lp.Program("stopping")
    server = program.add_node(lp.CourierNode(Stoppable), label="server")
    program.add_node(lp.PyNode(lp.wait_for_stop), label="poller")
    program.add_node(_node(kind, server), label="asker")
    # When it runs.
    run = lp.launch(program, launch_type, stop_timeline=NEVER)
    run.wait(timeout_s=WAIT_S)
    # Then all ended by themselves, and who asked, and why, is on record.
    assert {record.state for record in run.nodes.values()} == {lp.NodeState.FINISHED}
    events = [json.loads(line) for line in (run.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    stops = [(event["reason"], event["origin"]) for event in events if event["event"] == "stop"]
    assert stops == [REASONS[kind]]


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
@pytest.mark.parametrize("ask", ["run.stop", "run.stop_and_wait", "lp.stop"])
def test_the_launcher_can_stop_its_program_twice(ask, launch_type):
    program = lp.Program("stopped")
    server = program.add_node(lp.CourierNode(Stoppable), label="server")
    run = lp.launch(program, launch_type, stop_timeline=NEVER)
    client = server.dereference()
    assert client.is_stopping() is False
    for _ in range(2):
        if ask == "lp.stop" and not run.ended:
            lp.stop()
        elif ask != "lp.stop":
            getattr(run, ask.removeprefix("run."))()
    run.wait(timeout_s=WAIT_S)
    assert run.nodes["server/0"].state is lp.NodeState.FINISHED


def test_a_launcher_without_a_program_has_nothing_to_stop(monkeypatch):
    monkeypatch.setattr(context, "_ended_stop", None)  # as if no test before this one had launched a program
    with pytest.raises(lp.errors.NotInProgram):
        lp.stop()
    with pytest.raises(lp.errors.NotInProgram):
        lp.wait_for_stop(0)
    with pytest.raises(lp.errors.NotInProgram):
        lp.register_stop_handler(print)


def test_a_launcher_sees_that_its_program_has_stopped_after_the_end():
    # Given a program that has ended by itself
    program = lp.Program("brief")
    program.add_node(lp.PyNode(print, "over"), label="node")
    lp.launch(program, "local_mt").wait(timeout_s=WAIT_S)
    # Then a launcher that polls sees the end, and may ask for it once more
    assert lp.wait_for_stop(0)
    assert lp.stop_event().is_set()
    lp.stop()


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_nodes_that_only_serve_answer_until_those_with_work_have_ended(launch_type):
    # Given a node that calls a server after the program was stopped.
    def work(client):
        lp.stop()
        assert lp.wait_for_stop(WAIT_S)
        until(client.is_stopping, WAIT_S, "the server to hear of the stop, too")

    program = lp.Program("last-call")
    server = program.add_node(lp.CourierNode(Stoppable), label="server")
    program.add_node(lp.PyNode(work, server), label="worker")
    # When it runs, then the call is answered, and the server ends after it.
    run = lp.launch(program, launch_type, stop_timeline=NEVER)
    run.wait(timeout_s=WAIT_S)
    assert run.nodes["server/0"].state is lp.NodeState.FINISHED


STUBBORN = """
    def poll():
        lp.wait_for_stop()
        print("poll ended")

    def ignore():
        try:
            idle()
        finally:
            print("ignore cleaned up")

    def sleep_long():
        try:
            time.sleep(600)  # one call that does not return: no bytecode runs
        finally:
            print("sleep_long cleaned up")

    def wait_on_lock():
        try:
            threading.Event().wait()
        finally:
            print("wait_on_lock cleaned up")

    def swallow():
        try:
            idle()
        except lp.errors.StopRequested:
            print("swallow swallowed")
            idle()

    def swallow_all():
        while True:
            try:
                idle()
            except lp.errors.StopRequested:
                print("swallow_all swallowed")

    def ignore_signals():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            try:
                idle()
            except BaseException:
                pass

    class Handler:
        def hang(self):
            idle()

    def call_hanging(client):
        try:
            client.hang()
        finally:
            print("call_hanging cleaned up")

    timeline = lp.StopTimeline(ask_s=0.8, interrupt_s=0.8, terminate_s=0.5)
"""


def _stop_stubborn(folder: Path, launch_type: str, names: list[str]) -> tuple[dict[str, list[str]], Script]:
    """What nodes each step of the stop was for, as the run's folder tells."""
    source = (
        STUBBORN
        + f"""
    program = lp.Program("stubborn")
    server = program.add_node(lp.CourierNode(Handler), label="server")
    for name in {names!r}:
        arguments = [server] if name == "call_hanging" else []
        program.add_node(lp.PyNode(globals()[name], *arguments), label=name)
    run = lp.launch(program, {launch_type!r}, stop_timeline=timeline)
    while not all(record.state is lp.NodeState.READY for record in run.nodes.values()):
        time.sleep(0.01)
    run.stop()
    for record in run.nodes.values():
        say("state", record.name, record.state)
    say("folder", run.folder)
    run.wait()
    """
    )
    with Script(folder, source) as launcher:
        assert launcher.end() == 0
        events = Path(launcher.expect("folder (.*)")[1], "events.jsonl").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in events]
    steps = {
        step: sorted(event["node"].rpartition("/")[0] for event in told if event["event"] == step)
        for step in ("interrupt", "terminate", "kill")
    }
    return steps, launcher


def _states(launcher: Script) -> dict[str, str]:
    words = [line.split() for line in launcher.lines if line.startswith("state ")]
    return {name.rpartition("/")[0]: state for _, name, state in words}


def test_stop_insists_step_by_step_on_processes(tmp_path):
    # Given nodes that are harder to stop, one after the other.
    names = ["poll", "ignore", "sleep_long", "wait_on_lock", "swallow", "swallow_all", "ignore_signals", "call_hanging"]
    # When the program is stopped.
    steps, launcher = _stop_stubborn(tmp_path, "local_mp", names)
    # Then each ends at the step that it forces, and the launcher survives to say so.
    killed = ["ignore_signals", "swallow_all"]
    interrupted = ["ignore", "sleep_long", "wait_on_lock", "call_hanging"]
    assert steps == {
        "interrupt": sorted([*interrupted, "swallow", *killed, "server"]),
        "terminate": sorted(["swallow", *killed]),
        "kill": killed,
    }
    for name in interrupted:
        assert f"[{name}/0] {name} cleaned up" in launcher.lines
    assert launcher.lines.count("[swallow/0] swallow swallowed") == 1
    assert launcher.lines.count("[swallow_all/0] swallow_all swallowed") == 2
    assert _states(launcher) == {name: "KILLED" if name in killed else "FINISHED" for name in [*names, "server"]}


def test_a_stop_does_not_wait_for_what_nodes_are_to_be_forked_with(tmp_path, monkeypatch):
    # Given a node that has an hour to end, and is to be forked from a process that imports a library for ever
    monkeypatch.setattr(supervisor, "_CLOSE_S", 3600)
    monkeypatch.syspath_prepend(tmp_path)
    begun = tmp_path / "begun"
    (tmp_path / "endless.py").write_text(f"import threading\nopen({str(begun)!r}, 'w')\nthreading.Event().wait()")
    program = lp.Program("endless")
    program.add_node(lp.PyNode(lp.wait_for_stop), label="node")
    resources = {"node": lp.PythonProcess(preload=["endless"])}
    run = lp.launch(
        program, "local_mp", local_resources=resources, run_dir=tmp_path, stop_timeline=lp.StopTimeline(ask_s=3600.0)
    )
    until(begun.exists, WAIT_S)
    # When it is stopped, then it ends
    run.stop()
    assert run.nodes["node/0"].state is lp.NodeState.FINISHED


def test_stop_insists_on_threads_and_leaves_behind_what_cannot_be_stopped(tmp_path):
    # Given nodes that are harder to stop, and one that no exception reaches.
    names = ["poll", "ignore", "swallow", "swallow_all", "sleep_long"]
    # When the program is stopped.
    steps, launcher = _stop_stubborn(tmp_path, "local_mt", names)
    # Then those that can end do, and the launcher goes on without the others.
    assert "[ignore/0] ignore cleaned up" in launcher.lines
    killed = ["sleep_long", "swallow_all"]
    assert steps == {
        "interrupt": sorted(["ignore", "swallow", *killed, "server"]),
        "terminate": sorted(["swallow", *killed]),
        "kill": killed,
    }
    assert _states(launcher) == {name: "KILLED" if name in killed else "FINISHED" for name in [*names, "server"]}


def _launch_pair(first_type: str, second_type: str):
    class Server:
        def ping(self):
            return lp.get_context().program

        def stop_in_thread(self):
            answers = []

            def ask():
                lp.stop()
                answers.append(lp.wait_for_stop(WAIT_S))

            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
            return answers

    def work(own):
        assert own.ping() == lp.get_context().program
        lp.wait_for_stop()

    runs, handles = [], []
    for name, launch_type in (("first", first_type), ("second", second_type)):
        program = lp.Program(name)
        handles.append(program.add_node(lp.CourierNode(Server), label="server"))
        program.add_node(lp.PyNode(work, handles[-1]), label="worker")
        runs.append(lp.launch(program, launch_type, stop_timeline=NEVER))
    return runs, handles


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize(
    ("first_type", "second_type"),
    [("local_mt", "local_mt"), ("local_mp", "local_mp"), ("local_mt", "local_mp")],
    ids=["threads", "processes", "mixed"],
)
def test_two_programs_in_one_process_do_not_meet(first_type, second_type):
    # Given two programs of the same labels.
    (first, second), (to_first, to_second) = _launch_pair(first_type, second_type)
    until(lambda: all(record.state is lp.NodeState.READY for record in second.nodes.values()), WAIT_S)
    assert to_first.dereference().ping() == "first"
    assert to_second.dereference().ping() == "second"
    with pytest.raises(lp.errors.NotInProgram, match="2 programs"):
        lp.stop()
    # When a thread that a handler of the first started stops its program.
    assert to_first.dereference().stop_in_thread() == [True]
    first.wait(timeout_s=WAIT_S)
    # Then the second does not stop, and can still be called and stopped on its own.
    assert not lp.wait_for_stop(0)
    assert {record.state for record in second.nodes.values()} == {lp.NodeState.READY}
    assert to_second.dereference().ping() == "second"
    second.stop()
    assert second.failures == ()


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_the_same_program_can_be_launched_again_after_its_end(launch_type):
    program = lp.Program("again")
    handle = program.add_node(lp.CourierNode(Stoppable), label="server")
    folders = set()
    for _ in range(2):
        with lp.launch(program, launch_type, stop_timeline=NEVER) as run:
            assert handle.dereference().is_stopping() is False
            folders.add(run.folder)
    assert len(folders) == 2


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_stop_handlers_run_once_and_leave_signals_alone(launch_type, tmp_path):
    def note(path, text):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)

    def work(path):
        before = signal.getsignal(signal.SIGINT)
        lp.register_stop_handler(lambda: note(path, "registered\n"))
        forgotten = Path(path).touch
        lp.register_stop_handler(forgotten)
        lp.unregister_stop_handler(forgotten)
        assert signal.getsignal(signal.SIGINT) == before
        lp.stop()
        lp.wait_for_stop()
        until(lambda: Path(path).exists() and Path(path).read_text(encoding="utf-8"), WAIT_S)
        lp.register_stop_handler(lambda: note(path, "late\n"))

    path = tmp_path / "handlers"
    program = lp.Program("handlers")
    program.add_node(lp.PyNode(work, str(path)), label="worker")
    lp.launch(program, launch_type, stop_timeline=NEVER).wait(timeout_s=WAIT_S)
    assert path.read_text() == "registered\nlate\n"
