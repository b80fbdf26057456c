"""Ctrl-C and SIGTERM of a launcher, and how a launcher ends that waits for nothing."""

from __future__ import annotations

import re
import signal
import time

import pytest

from e2e.launching import Script
from polling import alive, all_gone, marked, until

AT_ONCE_S = 2.0

NODES = """
    def careful():
        say("running")
        try:
            idle()
        finally:
            print("cleaned up")

    def polling():
        say("running")
        lp.wait_for_stop()
        print("polled")

    def hopeless():
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("running")
        while True:
            try:
                idle()
            except BaseException:
                pass

    def make(*functions):
        program = lp.Program("signals")
        for function in functions:
            program.add_node(lp.PyNode(function), label=function.__name__)
        return program

    quick = lp.StopTimeline(ask_s=0.2, interrupt_s=2.0, terminate_s=2.0)
    endless = lp.StopTimeline(ask_s=100.0)
"""


def _all_run(launcher: Script, count: int) -> None:
    until(lambda: sum("running" in line for line in launcher.lines) == count, 10, "all nodes")


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_the_first_signal_stops_the_program(number, code, launch_type, tmp_path, runs_dir):
    # Given a launcher that waits.
    source = NODES + f"    lp.launch(make(careful, polling), {launch_type!r}, stop_timeline=quick).wait()\n"
    with Script(tmp_path, source) as launcher:
        _all_run(launcher, 2)
        processes = marked(runs_dir)
        # When it gets its first signal.
        launcher.signal(number)
        # Then nodes end in their own way, nothing is left, and the exit code is the signal's.
        assert launcher.end() == code
        assert "[careful/0] cleaned up" in launcher.lines
        assert "[polling/0] polled" in launcher.lines
        assert "Traceback" not in launcher.errors
        assert not [process for process in processes if alive(process)]


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
        _all_run(launcher, 2)
        # When Ctrl-C is pressed.
        launcher.interrupt()
        # Then that node alone is named, and a second Ctrl-C does what was said.
        told = "kourou: waiting up to 104 s for deaf/0 to end; Ctrl-C again kills at once"
        until(lambda: told in launcher.error_lines, 10, f"{told} in {launcher.error_lines}")
        launcher.interrupt()
        assert launcher.end() == 130


def test_ctrl_c_of_a_terminal_reaches_the_nodes_through_the_launcher_only(tmp_path):
    # Given a launcher whose whole process group gets the signal, as in a terminal.
    source = NODES + "    lp.launch(make(careful, polling), 'local_mp', stop_timeline=quick).wait()\n"
    with Script(tmp_path, source) as launcher:
        _all_run(launcher, 2)
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
        _all_run(launcher, 2)
        processes = marked(runs_dir)
        # When Ctrl-C is pressed twice.
        launcher.interrupt()
        until(lambda: '"event": "stop"' in _events(runs_dir), 10)
        started = time.monotonic()
        launcher.interrupt()
        # Then all is over at once.
        assert launcher.end() == 130
        assert time.monotonic() - started < AT_ONCE_S
        all_gone(processes, AT_ONCE_S)


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
        _all_run(launcher, 1)
        # When Ctrl-C is pressed.
        launcher.interrupt()
        # Then its code is interrupted, and the exit waits for the nodes.
        assert launcher.end() == 130
        launcher.expect("interrupted with 130")
        launcher.expect("the launcher's own finally")
        assert "[careful/0] cleaned up" in launcher.lines
        assert "Traceback" not in launcher.errors
    assert marked(runs_dir) == []


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
        _all_run(launcher, 1)
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
        _all_run(launcher, 2)
        launcher.interrupt()
        assert launcher.end() == 130
        assert launcher.lines.count("[careful/0] cleaned up") == 2


EXITS = {
    # name → (how the launcher ends, exit code, part of stderr, part of stdout)
    "good": ("pass", 0, "", "good/0] worked"),
    "own-code": ("sys.exit(7)", 7, "", "good/0] worked"),
    "failing-node": ("lp.launch(make(bad), kind, stop_timeline=quick)", 1, "bad/0 raised ZeroDivisionError", ""),
    "launcher-raises": ("raise OSError('the launcher itself')", 1, "OSError: the launcher itself", ""),
}


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
@pytest.mark.parametrize("case", EXITS)
def test_a_launcher_that_does_not_wait_ends_with_its_program(case, launch_type, tmp_path, runs_dir):
    # Given a launcher whose last statement is lp.launch, or little more.
    statement, code, error, text = EXITS[case]
    source = (
        NODES
        + f"""
    kind = {launch_type!r}

    def good():
        lp.wait_for_stop(0.3)  # still runs when the launcher is at its end
        print("worked")

    def bad():
        lp.wait_for_stop(0.1)
        1 / 0

    lp.launch(make(good), kind, stop_timeline=quick)
    {statement}
    """
    )
    # When it ends.
    with Script(tmp_path, source) as launcher:
        # Then it waited for its program, and tells how that ended.
        assert launcher.end() == code, launcher.errors
        assert error in launcher.errors
        assert re.search(text, launcher.output)
    assert marked(runs_dir) == []


def test_a_launcher_that_raises_stops_its_program(tmp_path, runs_dir):
    source = (
        NODES
        + """
    run = lp.launch(make(polling), "local_mp", stop_timeline=endless)
    while run.nodes["polling/0"].state is not lp.NodeState.READY:
        time.sleep(0.01)
    raise OSError("the launcher itself")
    """
    )
    with Script(tmp_path, source) as launcher:
        assert launcher.end() == 1
        assert "OSError: the launcher itself" in launcher.errors
        assert "[polling/0] polled" in launcher.lines
    assert marked(runs_dir) == []


def test_a_failure_that_wait_raised_is_told_once(tmp_path):
    source = (
        NODES
        + """
    def bad():
        raise ValueError("only once")

    lp.launch(make(bad), "local_mt", stop_timeline=quick).wait()
    """
    )
    with Script(tmp_path, source) as launcher:
        assert launcher.end() == 1
        assert launcher.errors.count("ProgramFailed") == 1
        assert launcher.errors.count("program 'signals' failed") == 1


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_a_fork_of_the_launcher_ends_without_the_program(launch_type, tmp_path):
    # Given a launcher that forks while its program runs, by itself and by multiprocessing.
    source = (
        NODES
        + f"""
    import multiprocessing, warnings
    warnings.simplefilter("ignore")

    run = lp.launch(make(polling), {launch_type!r}, stop_timeline=quick)
    while run.nodes["polling/0"].state is not lp.NodeState.READY:
        time.sleep(0.01)
    child = os.fork()
    if child == 0:
        sys.exit(5)
    other = multiprocessing.get_context("fork").Process(target=print, args=("from a fork",))
    other.start()
    # When the forks exit.
    say("fork ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    other.join(5)
    say("other ended with", other.exitcode)
    say("state", run.nodes["polling/0"].state)
    run.stop()
    """
    )
    with Script(tmp_path, source) as launcher:
        # Then they do not wait for a program that is not theirs, and do not end it either.
        launcher.expect("fork ended with 5")
        launcher.expect("other ended with 0")
        launcher.expect("state READY")
        assert launcher.end() == 0


def test_the_launcher_s_own_exit_handlers_run_after_its_program(tmp_path):
    source = (
        NODES
        + """
    import atexit, concurrent.futures

    def work():
        lp.wait_for_stop(0.3)
        with concurrent.futures.ThreadPoolExecutor() as pool:  # refuses work once the interpreter shuts down
            pool.submit(print, "worked").result()

    program = make(work)
    run = lp.launch(program, "local_mt", stop_timeline=quick)
    atexit.register(lambda: say("handler:", run.ended))
    """
    )
    with Script(tmp_path, source) as launcher:
        assert launcher.end() == 0, launcher.errors
        launcher.expect("worked")
        launcher.expect("handler: True")
