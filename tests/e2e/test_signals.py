"""Ctrl-C and SIGTERM of a launcher, and how a launcher ends that waits for nothing."""

from __future__ import annotations

import contextlib
import re
import signal
from pathlib import Path

import psutil
import pytest

from e2e.launching import Script
from polling import WAIT_S, alive, all_gone, marked, until

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
    until(lambda: sum("running" in line for line in launcher.lines) == count, WAIT_S, "all nodes")


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
        _all_run(launcher, 2)
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
        _all_run(launcher, 1)
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
        _all_run(launcher, 1)
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


CAUGHT_EXIT = """
    try:
        sys.exit(3)
    except SystemExit as error:
        say("caught", error.code)"""

EXITS = {
    # name → (how the launcher ends, exit code, part of stderr, part of stdout)
    "good": ("pass", 0, "", "good/0] worked"),
    "own-code": ("sys.exit(7)", 7, "", ""),
    "failing-node": ("lp.launch(make(bad), kind, stop_timeline=quick)", 1, "bad/0 raised ZeroDivisionError", ""),
    "exits-with-0": ("sys.exit(0)", 0, "", "good/0] worked"),
    "exits-without": ("sys.exit()", 0, "", "good/0] worked"),
    "caught-exit": (CAUGHT_EXIT, 0, "", "good/0] worked"),
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


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
@pytest.mark.parametrize(
    ("statement", "code", "told"),
    [
        ("raise OSError('the launcher itself')", 1, "OSError: the launcher itself"),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('no such data')", 1, "no such data"),
    ],
    ids=["raises", "exits", "exits-with-text"],
)
def test_a_launcher_that_fails_stops_its_program(statement, code, told, launch_type, tmp_path, runs_dir):
    source = (
        NODES
        + f"""
    run = lp.launch(make(polling), {launch_type!r}, stop_timeline=endless)
    while run.nodes["polling/0"].state is not lp.NodeState.READY:
        time.sleep(0.01)
    {statement}
    """
    )
    with Script(tmp_path, source) as launcher:
        assert launcher.end() == code
        assert told in launcher.errors
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


LINGERING = """
    import atexit

    def held_by_a_thread():
        threading.Thread(target=time.sleep, args=(1000,), name="prefetch").start()
        say("running")

    def held_at_exit():
        atexit.register(linger)
        say("running")

    def linger():
        time.sleep(1000)

    def deaf():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        say("running")
        while True:
            try:
                idle()
            except BaseException:
                pass
"""


def test_a_node_that_a_stop_had_to_terminate_is_no_failure_and_what_held_it_is_named(tmp_path):
    # Given nodes that have finished, but whose processes do not end, and one that cares for nothing.
    source = (
        NODES
        + LINGERING
        + """
    quick = lp.StopTimeline(ask_s=0.2, interrupt_s=0.2, terminate_s=10.0)
    run = lp.launch(make(held_by_a_thread, held_at_exit, deaf), "local_mp", stop_timeline=quick)
    while not os.path.exists(sys.argv[0] + ".go"):
        time.sleep(0.01)
    run.stop()
    run.wait()
    say(*(f"{name}={node.state}:{node.exit.cause.split()[0]}" for name, node in run.nodes.items()))
    """
    )
    with Script(tmp_path, source) as launcher:
        _all_run(launcher, 3)
        # When the program is stopped, then it did not fail, and each says what it waited for.
        Path(f"{launcher.path}.go").touch()
        assert launcher.end() == 0, launcher.errors
        launcher.expect("held_by_a_thread/0=FINISHED:finished held_at_exit/0=FINISHED:finished deaf/0=KILLED:was")
        launcher.expect("held_by_a_thread/0 had finished, but thread 'prefetch' did not end")
        launcher.expect("held_at_exit/0 had finished, but its exit handlers did not end: linger in ")


@pytest.mark.parametrize("ending", ["raise ValueError('outer')", "lp.stop(); run.wait()", "sys.exit(3)"])
def test_a_program_that_a_node_launched_is_stopped_when_the_node_does_not_finish(ending, tmp_path, runs_dir):
    # Given a node that launches a program of its own, which would run for ever.
    source = (
        NODES
        + f"""
    def outer(up):
        program = lp.Program("inner")
        program.add_node(lp.PyNode(inner, up), label="inner")
        run = lp.launch(program, "local_mp", stop_timeline=endless)
        while not os.path.exists(up):
            time.sleep(0.01)
        {ending}

    def inner(up):
        open(up, "w").close()
        lp.wait_for_stop()
        print("polled")

    program = lp.Program("outer")
    with program.group("outer", on_failure="ignore"):
        program.add_node(lp.PyNode(outer, sys.argv[0] + ".up"))
    lp.launch(program, "local_mp", stop_timeline=lp.StopTimeline(ask_s=0.2, interrupt_s=20.0)).wait()
    """
    )
    with Script(tmp_path, source) as launcher:
        # When it raises, is stopped, or exits, then its program is stopped, too, as it would be by a launcher.
        assert launcher.end() == 0, launcher.errors
        launcher.expect(r"\[inner/0\] polled")
    assert marked(runs_dir) == []
