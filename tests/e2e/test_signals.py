"""Ctrl-C and SIGTERM of a launcher, and what nodes inherit of its handlers."""

from __future__ import annotations

import contextlib
import re
import signal
from pathlib import Path

import psutil
import pytest

from e2e.launching import NODES, Script, all_run
from kourou.runtime.model.status import RunState
from kourou.runtime.monitoring.run_search import find_runs
from polling import WAIT_S, alive, all_gone, marked, until


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
@pytest.mark.parametrize(
    ("number", "code", "named"),
    [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")],
    ids=["SIGINT", "SIGTERM"],
)
def test_the_first_signal_stops_the_program(number, code, named, launch_type, tmp_path, runs_dir):
    # Given a launcher that waits.
    source = NODES + f"    lp.launch(make(careful, polling), {launch_type!r}, stop_timeline=quick).wait()\n"
    with Script(tmp_path, source) as launcher:
        all_run(launcher, 2)
        processes = marked(runs_dir)
        # When it gets its first signal.
        launcher.signal(number)
        # Then nodes end in their own way, nothing is left, and the exit code is the signal's.
        assert launcher.end() == code
        assert "[careful/0] cleaned up" in launcher.lines
        assert "[polling/0] polled" in launcher.lines
        assert "Traceback" not in launcher.errors
        assert not [process for process in processes if alive(process)]
        # And the run's folder tells which it was.
        [run] = find_runs(runs_dir)
        assert (run.state, run.status().stop_reason) == (RunState.INTERRUPTED, f"interrupted by {named}")


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_who_pressed_ctrl_c_is_told_which_nodes_the_end_waits_for(launch_type, tmp_path):
    # Given a server, and a node that does not care to stop.
    source = (
        NODES
        + f"""
    class Server:
        def get(self):
            return 1

    def deaf(server):
        say("running", server.get())
        idle()

    program = make(polling)
    program.add_node(lp.PyNode(deaf, program.add_node(lp.CourierNode(Server), label="server")), label="deaf")
    lp.launch(program, {launch_type!r}, stop_timeline=endless).wait()
"""
    )
    with Script(tmp_path, source) as launcher:
        all_run(launcher, 2)
        # When Ctrl-C is pressed.
        launcher.interrupt()
        # Then that node alone is named, and a second Ctrl-C does what was said.
        told = "kourou: waiting up to 104 s for deaf/0 to end; Ctrl-C again kills at once"
        until(lambda: told in launcher.error_lines, WAIT_S, f"{told} in {launcher.error_lines}")
        launcher.interrupt()
        assert launcher.end() == 130


@pytest.mark.parametrize("order", ["nodes-first", "launcher-first"])
def test_sigterm_to_all_processes_stops_the_program(order, tmp_path, runs_dir):
    # Given a program under Slurm, systemd or Docker.
    source = (
        NODES
        + """
    run = lp.launch(make(careful, polling), 'local_mp', stop_timeline=quick)
    try:
        run.wait()
    finally:
        say(*(f"{name}={node.state}/{node.attempt}" for name, node in run.nodes.items()))
"""
    )
    with Script(tmp_path, source) as launcher:
        all_run(launcher, 2)
        processes = sorted(marked(runs_dir), key=lambda process: process == launcher.process)
        # When these send SIGTERM to all of its processes.
        for process in processes if order == "nodes-first" else reversed(processes):
            with contextlib.suppress(psutil.NoSuchProcess):  # the stop was quicker
                process.send_signal(signal.SIGTERM)
        # Then it ends as it does when the launcher alone gets it.
        assert launcher.end() == 143
        launcher.expect("careful/0=FINISHED/1 polling/0=FINISHED/1")
        assert "[careful/0] cleaned up" in launcher.lines
        assert "[polling/0] polled" in launcher.lines
    assert marked(runs_dir) == []


SAVING = (
    NODES
    + """
    def saving(path):
        say("running")
        lp.wait_for_stop()
        say("saving")
        while not os.path.exists(path):
            time.sleep(0.01)
        print("saved")

    program = lp.Program("saving")
    program.add_node(lp.PyNode(saving, sys.argv[0] + ".go"), label="saving")
    run = lp.launch(program, "local_mp", stop_timeline=endless)
"""
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_what_others_send_twice_is_meant_once(number, tmp_path):
    # Given a node that saves its work when it stops.
    with Script(tmp_path, SAVING + "    run.wait()\n") as launcher:
        all_run(launcher, 1)
        # When the launcher gets a signal twice, as from timeout or from a terminal that closes.
        launcher.signal(number)
        launcher.expect("saving")
        launcher.signal(number)
        Path(f"{launcher.path}.go").touch()
        # Then the node has its time.
        assert launcher.end() == 128 + number
        assert "[saving/0] saved" in launcher.lines


def test_under_nohup_a_launcher_outlives_its_terminal(tmp_path):
    source = SAVING.replace("    run = ", "    signal.signal(signal.SIGHUP, signal.SIG_IGN)\n    run = ")
    with Script(tmp_path, source + "    run.wait()\n") as launcher:
        all_run(launcher, 1)
        launcher.signal(signal.SIGHUP)
        launcher.signal(signal.SIGINT)  # the second one would have killed
        launcher.expect("saving")
        Path(f"{launcher.path}.go").touch()
        assert launcher.end() == 130
        assert "[saving/0] saved" in launcher.lines


def test_ctrl_c_of_a_terminal_reaches_the_nodes_through_the_launcher_only(tmp_path):
    # Given a launcher whose whole process group gets the signal, as in a terminal.
    source = NODES + "    lp.launch(make(careful, polling), 'local_mp', stop_timeline=quick).wait()\n"
    with Script(tmp_path, source) as launcher:
        all_run(launcher, 2)
        # When Ctrl-C is pressed.
        launcher.signal_group(signal.SIGINT)
        # Then nodes end as they would otherwise: none sees a KeyboardInterrupt.
        assert launcher.end() == 130
        assert "[careful/0] cleaned up" in launcher.lines
        assert "[polling/0] polled" in launcher.lines
        assert "KeyboardInterrupt" not in launcher.output + launcher.errors


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_the_second_ctrl_c_ends_all_at_once(launch_type, tmp_path, runs_dir):
    # Given a program that would take a hundred seconds to stop.
    source = NODES + f"    lp.launch(make(careful, hopeless), {launch_type!r}, stop_timeline=endless).wait()\n"
    with Script(tmp_path, source) as launcher:
        all_run(launcher, 2)
        processes = marked(runs_dir)
        # When Ctrl-C is pressed twice.
        launcher.interrupt()
        until(lambda: '"event": "stop"' in _events(runs_dir), WAIT_S)
        launcher.interrupt()
        # Then all is over at once.
        assert launcher.end() == 130
        all_gone(processes, WAIT_S)


def _events(runs_dir) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in runs_dir.glob("*/events.jsonl"))


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_ctrl_c_during_user_code_raises_there_and_stops_the_program(launch_type, tmp_path, runs_dir):
    # Given a launcher that does something else than waiting.
    source = (
        NODES
        + f"""
    run = lp.launch(make(careful), {launch_type!r}, stop_timeline=quick)
    try:
        idle()
    except KeyboardInterrupt as error:
        say("interrupted with", error.code)
        raise
    finally:
        say("the launcher's own finally")
    """
    )
    with Script(tmp_path, source) as launcher:
        all_run(launcher, 1)
        # When Ctrl-C is pressed.
        launcher.interrupt()
        # Then its code is interrupted, and the exit waits for the nodes.
        assert launcher.end() == 130
        launcher.expect("interrupted with 130")
        launcher.expect("the launcher's own finally")
        assert "[careful/0] cleaned up" in launcher.lines
        assert "Traceback" not in launcher.errors
    assert marked(runs_dir) == []


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
@pytest.mark.parametrize("moment", ["just before", "just after"])
def test_ctrl_c_while_a_program_is_launched_stops_it(moment, launch_type, tmp_path, runs_dir):
    # Given a launcher that gets Ctrl-C, within lp.launch, just before its nodes are started, or just after
    source = (
        NODES
        + f"""
    from kourou.runtime.launch.director import Director

    def start(director, launcher, really=Director.start):
        if {moment!r} == "just after":
            really(director, launcher)
        signal.raise_signal(signal.SIGINT)
        if {moment!r} == "just before":
            really(director, launcher)

    Director.start = start
    lp.launch(make(careful), {launch_type!r}, stop_timeline=quick)
    """
    )
    # When it is launched, Then it ends, with its nodes, as if Ctrl-C had come a moment later
    with Script(tmp_path, source) as launcher:
        assert launcher.end() == 130
        assert "Traceback" not in launcher.errors
        assert "failed" not in launcher.errors
    assert marked(runs_dir) == []
    [run] = find_runs(runs_dir)
    assert (run.state, run.status().stop_reason) == (RunState.INTERRUPTED, "interrupted by Ctrl-C")


def test_a_launcher_that_catches_ctrl_c_goes_on_after_the_program(tmp_path):
    # Given a launcher that catches what wait raises.
    source = (
        NODES
        + """
    run = lp.launch(make(careful), "local_mp", stop_timeline=quick)
    try:
        run.wait()
    except KeyboardInterrupt:
        say("ended:", run.ended, run.nodes["careful/0"].state)
    """
    )
    with Script(tmp_path, source) as launcher:
        all_run(launcher, 1)
        # When Ctrl-C is pressed.
        launcher.interrupt()
        # Then the program is over when it goes on, and its exit code is its own.
        assert launcher.end() == 0
        launcher.expect("ended: True FINISHED")


@pytest.mark.parametrize("ending", ["run.wait()", "run.stop()", "lp.stop(); run.wait(raise_error=False)"])
def test_earlier_signal_handlers_are_back_after_the_run(ending, tmp_path):
    # Given a launcher with signal handlers of its own.
    source = (
        NODES
        + f"""
    def own(number, frame):
        say("own handler", number)

    signal.signal(signal.SIGINT, own)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run = lp.launch(make({"lp.stop" if ending == "run.wait()" else "polling"}), "local_mt", stop_timeline=quick)
    while_it_ran = signal.getsignal(signal.SIGINT)
    {ending}
    say("back:", signal.getsignal(signal.SIGINT) is own, signal.getsignal(signal.SIGTERM) == signal.SIG_IGN)
    say("other:", while_it_ran is not own)
    signal.raise_signal(signal.SIGINT)
    """
    )
    with Script(tmp_path, source) as launcher:
        # When the run has ended, then they are in place and work.
        assert launcher.end() == 0
        launcher.expect("back: True True")
        launcher.expect("other: True")
        launcher.expect("own handler 2")


def test_ctrl_c_with_two_programs_stops_both(tmp_path):
    source = (
        NODES
        + """
    runs = [lp.launch(make(careful), kind, stop_timeline=quick) for kind in ("local_mt", "local_mp")]
    runs[1].wait()
    """
    )
    with Script(tmp_path, source) as launcher:
        all_run(launcher, 2)
        launcher.interrupt()
        assert launcher.end() == 130
        assert launcher.lines.count("[careful/0] cleaned up") == 2


INHERITED = """
    import json, multiprocessing
    LOOK = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGURG)

    def own(*_):
        pass

    def named(number):
        handler = signal.getsignal(number)
        return getattr(handler, "__name__", None) or signal.Handlers(handler).name

    def children():
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, own)
        # a child of fork: it has what a child of plain Python has
        child = os.fork()
        if child == 0:
            say("fork:", *map(named, NUMBERS), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
            os._exit(0)
        os.waitpid(child, 0)
        # one that sleeps in C code: SIGTERM ends it
        context = multiprocessing.get_context("fork")
        lock = context.Lock()
        with lock:
            asleep = context.Process(target=lock.acquire)
            asleep.start()
            asleep.terminate()
            asleep.join()
        say("asleep:", asleep.exitcode)
        # a program that is executed
        say("exec:", subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True).stdout.strip())
"""


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_children_of_a_node_inherit_no_signal_handlers_of_ours(launch_type, tmp_path):
    source = NODES + INHERITED + f"    lp.launch(make(children), {launch_type!r}, stop_timeline=quick).wait()\n"
    with Script(tmp_path, source, options=["-W", "ignore"]) as launcher:
        assert launcher.end() == 0, launcher.errors
        hangup = "own" if launch_type == "local_mp" else "SIG_DFL"  # the node's own one stays
        launcher.expect(f"fork: default_int_handler SIG_DFL {re.escape(hangup)} SIG_DFL set\\(\\)")
        launcher.expect("asleep: -15")
        launcher.expect("exec: True")
