"""How a launcher ends that waits for nothing, and forks of it."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from e2e.launching import BOTH, NODES, Script, all_run, run_as
from polling import marked

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


@BOTH
@pytest.mark.parametrize(
    ("number", "code", "named"),
    [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_signal_at_a_launcher_s_exit_ends_it_as_one_in_wait_does(number, code, named, kind, tmp_path, runs_dir):
    # Given a script that has come to its end, and waits there for its program
    source = (
        NODES
        + f"""
    run = lp.launch(make(polling), {kind!r}, stop_timeline=endless)
    finish = run.finish_at_exit
    run.finish_at_exit = lambda: [say("at its end"), finish()][1]
    """
    )
    with Script(tmp_path, source) as launcher:
        all_run(launcher, 1)
        launcher.expect("at its end")
        # When a signal comes
        launcher.signal(number)
        # Then nodes end in their own way, and `script && next` does not go on
        assert launcher.end() == code
        assert "[polling/0] polled" in launcher.lines
        assert launcher.error_lines == [f"kourou: what the script had left running was interrupted by {named}"]
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
        assert launcher.errors.count("ProgramFailed:") == 1
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
        all_run(launcher, 3)
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


@BOTH
def test_programs_that_nodes_launched_are_stopped_with_those_nodes(kind, tmp_path):
    # Given nodes that wait for programs of their own, one in the other, and whom nobody would interrupt for an hour
    source = """
        import os, sys, time
        import kourou as lp

        PATIENT = lp.StopTimeline(ask_s=3600)
        UP = sys.argv[0] + ".up"

        def outer(depth):
            program = lp.Program(f"inner{depth}")
            program.add_node(lp.PyNode(outer, depth - 1) if depth else lp.PyNode(inner), label="node")
            try:
                lp.launch(program, KIND, stop_timeline=PATIENT).wait()
            except lp.errors.StopRequested:
                print("unwound")
                raise
            print("never reached")

        def inner():
            open(UP, "w").close()
            lp.wait_for_stop()
            print("polled")

        program = lp.Program("outer")
        program.add_node(lp.PyNode(outer, 1), label="outer")
        run = lp.launch(program, KIND, stop_timeline=PATIENT)
        while not os.path.exists(UP):
            time.sleep(0.01)
        run.stop()
        run.wait()
    """
    # When the outermost stops, then the others do, and those that wait end as nodes do that are interrupted
    said = run_as(tmp_path, kind, source)
    assert said.count("polled") == 1
    assert said.count("unwound") == 2
    assert "never" not in said


WORK = {
    "ranks": ("from kourou.spmd import Launcher", "Launcher(workers_per_host=2, backend=None).run(work)"),
    "sweep": (
        "from kourou.experiments import RunSpec, run_sweep",
        "run_sweep([RunSpec(name='r', function=work, folder='runs/r')], 'runs')",
    ),
}


@BOTH
@pytest.mark.parametrize("what", WORK)
def test_ranks_and_sweeps_that_a_node_runs_are_stopped_with_it(what, kind, tmp_path):
    # Given a node that waits for ranks, or for a sweep, and whom nobody would interrupt for an hour
    imported, begin = WORK[what]
    source = f"""
        import os, sys, time
        import kourou as lp
        {imported}

        UP = os.path.abspath(sys.argv[0] + ".up")

        def work():
            open(UP, "w").close()
            time.sleep(3600)

        def node():
            try:
                {begin}
            except lp.errors.StopRequested:
                print("unwound")
                raise
            print("never reached")

        program = lp.Program("outer")
        program.add_node(lp.PyNode(node), label="node")
        run = lp.launch(program, KIND, stop_timeline=lp.StopTimeline(ask_s=3600))
        while not os.path.exists(UP):
            time.sleep(0.01)
        run.stop()
        run.wait()
    """
    # When the program stops, then what the node has started ends, and it ends as nodes do that are interrupted
    said = run_as(tmp_path, kind, source)
    assert said.count("unwound") == 1
    assert "never" not in said


LEFT = {
    "program": ("", "lp.launch(of(work), KIND, stop_timeline=lp.StopTimeline(ask_s=0))"),
    "ranks": ("from kourou.spmd import Launcher", "Launcher(workers_per_host=2, backend=None).submit(work)"),
}


@pytest.mark.parametrize("what", LEFT)
def test_what_a_node_has_left_running_at_its_end_is_stopped_with_its_program(what, tmp_path):
    # Given a node whose function has returned, whose process waits for what that launched, and whom nobody would end
    imported, begin = LEFT[what]
    source = f"""
        import os, sys, time
        import kourou as lp
        {imported}

        UP = os.path.abspath(sys.argv[0] + ".up")

        def of(function):
            program = lp.Program(function.__name__)
            program.add_node(lp.PyNode(function), label="node")
            return program

        def work():
            open(UP, "w").close()
            time.sleep(3600)

        def node():
            {begin}

        run = lp.launch(of(node), KIND, stop_timeline=lp.StopTimeline(ask_s=3600))
        while not os.path.exists(UP):
            time.sleep(0.01)
        run.stop()
        print(run.nodes["node/0"].exit.cause)
    """
    # When the program stops, then so does that
    assert "finished" in run_as(tmp_path, "local_mp", source)
