"""A launcher that is killed leaves nothing behind, however its nodes' processes try to get away."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from e2e.launching import Script
from polling import WAIT_S, alive, all_gone, marked, until

FAMILY = r"""
    def sleeper(name, **options):
        code = f"import os, time; os.write(1, b'{name} %d\\n' % os.getpid()); time.sleep(600)"
        return subprocess.Popen([sys.executable, "-S", "-c", code], **options)

    def daemonize(name):
        # The classic daemon: fork, setsid, fork; its parent is gone, its session is its own.
        if os.fork():
            return
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(1, f"{name} {os.getpid()}\n".encode())  # one write: a line of several pieces could be torn
        time.sleep(600)
        os._exit(0)

    def parent(stubborn):
        if stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sleeper("child")
        sleeper("child-of-own-session", start_new_session=True)
        sleeper("child-without-environment", start_new_session=True, env={})
        sleeper("child-ignoring-sigterm", preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
        daemonize("daemon")
        say("node", os.getpid())
        while True:
            try:
                time.sleep(600)
            except BaseException:
                pass

    program = lp.Program("family")
    program.add_node(lp.PyNode(parent, True), label="stubborn")
    program.add_node(lp.PyNode(idle), label="plain")
    run = lp.launch(program, "local_mp", stop_timeline=lp.StopTimeline(ask_s=0.1, interrupt_s=0.3, terminate_s=0.3))
"""
MEMBERS = [
    "node",
    "child",
    "child-of-own-session",
    "child-ignoring-sigterm",
    "daemon",
    "child-without-environment",
]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1], ids=["SIGKILL", "SIGUSR1"])
def test_everything_is_gone_once_the_launcher_is_killed(number: int, tmp_path: Path, runs_dir: Path):
    # Given a launcher whose node has children, some of which ran away from it.
    with Script(tmp_path, FAMILY + "\n    run.wait()\n") as launcher:
        family = [launcher.expect_process(name) for name in MEMBERS]
        everything = [p for p in marked(runs_dir) if p != launcher.process]
        assert len(everything) >= len(MEMBERS)  # the zygote and the second node, but not the child without environment
        # When it is killed.
        launcher.signal(number)
        assert launcher.end() == -number
        # Then all of them are gone.
        all_gone({*family, *everything}, WAIT_S)
    assert marked(runs_dir) == []


@pytest.mark.parametrize("moment", [0, 2, 4])
def test_everything_is_gone_when_the_launcher_is_killed_while_it_starts(moment: int, tmp_path: Path, runs_dir: Path):
    # Given a launcher that has just begun to start its nodes.
    source = """
        program = lp.Program("starting")
        with program.group("node"):
            for _ in range(4):
                program.add_node(lp.PyNode(idle))
        lp.launch(program, "local_mp").wait()
    """
    with Script(tmp_path, source) as launcher:
        until(lambda: len(marked(runs_dir)) > 1 + moment, WAIT_S, "the zygote, then one node after the other")
        found = marked(runs_dir)
        # When it is killed.
        launcher.signal(signal.SIGKILL)
        launcher.end()
        # Then all of them are gone.
        all_gone(found, WAIT_S)
        until(lambda: marked(runs_dir) == [], WAIT_S)


def test_the_zygote_killed_takes_the_nodes_with_it_and_the_launcher_reports(tmp_path: Path, runs_dir: Path):
    # Given a running program with grandchildren.
    source = """
    try:
        run.wait()
    except lp.errors.ProgramFailed as error:
        say("caught", error.records[0].node, error.records[0].signal)
        say("tells", "zygote" in str(error))
        raise
    """
    with Script(tmp_path, FAMILY + source) as launcher:
        family = [launcher.expect_process(name) for name in MEMBERS]
        zygote = psutil.Process(family[0].pid).parent()
        assert zygote is not None
        assert zygote != launcher.process
        # When the zygote is killed.
        zygote.kill()
        # Then its nodes and what they started are gone, and the launcher says so and survives to do it.
        all_gone(family, WAIT_S)
        assert launcher.end() == 1
        assert launcher.expect(r"caught (\w+/\d) (\w+)")[2] == "SIGKILL"
        assert launcher.expect("tells (True|False)")[1] == "True"
    assert marked(runs_dir) == []


def test_a_node_killed_ends_the_program_and_takes_its_children_with_it(tmp_path: Path, runs_dir: Path):
    # Given a running program with grandchildren.
    with Script(tmp_path, FAMILY + "\n    run.wait()\n") as launcher:
        family = [launcher.expect_process(name) for name in MEMBERS]
        # When a node is killed.
        family[0].kill()
        # Then its children are gone at once, and the program ends with a report.
        all_gone(family, WAIT_S)
        assert launcher.end() == 1
        assert not [process for process in family if alive(process)]
        assert "stubborn/0 was killed by SIGKILL" in launcher.errors
    assert marked(runs_dir) == []


def test_a_grandchild_that_outlives_its_node_is_gone_once_the_node_has_finished(tmp_path: Path, runs_dir: Path):
    # Given a node that leaves children behind when it returns.
    source = FAMILY.replace("while True:", "while not os.path.exists(sys.argv[0] + '.end'):").replace(
        "time.sleep(600)\n            except", "time.sleep(0.01)\n            except"
    )
    with Script(tmp_path, source + "\n    run.wait(['stubborn'])\n    say('waited')\n    run.stop()\n") as launcher:
        family = [launcher.expect_process(name) for name in MEMBERS]
        # When it returns.
        Path(f"{launcher.path}.end").touch()
        # Then they are gone by the time that it counts as ended, and the rest of the program runs on.
        launcher.expect("waited")
        assert not [process for process in family if alive(process)]
        assert launcher.end() == 0
    assert marked(runs_dir) == []


def test_a_fork_of_a_killed_launcher_does_not_keep_the_program_alive(tmp_path: Path, runs_dir: Path):
    # Given a launcher that forked after its launch, so that the fork has all of its descriptors.
    source = """
        program = lp.Program("forked")
        program.add_node(lp.PyNode(idle), label="node")
        run = lp.launch(program, "local_mp")
        while run.nodes["node/0"].state is not lp.NodeState.READY:
            time.sleep(0.01)
        if os.fork() == 0:
            say("fork", os.getpid())
            time.sleep(600)
        say("node", run.nodes["node/0"].pid)
        run.wait()
    """
    with Script(tmp_path, source) as launcher:
        fork = launcher.expect_process("fork")
        node = launcher.expect_process("node")
        try:
            # When the launcher is killed.
            launcher.signal(signal.SIGKILL)
            # Then its nodes are gone, although the fork lives on.
            all_gone([node], WAIT_S)
            assert alive(fork)
        finally:
            fork.kill()
    until(lambda: marked(runs_dir) == [], WAIT_S)
