"""Finding the processes of a node."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import Any

import psutil

from kourou.runtime.node_environment import COOKIE
from kourou.runtime.process import process_table
from optional import pytest
from polling import WAIT_S, until
from strangers import needs_root


@pytest.fixture
def start():
    """Starts processes and ends them."""
    started: list[Any] = []

    def run(code, **options):
        popen = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, text=True, **options)
        started.append(popen)
        return popen

    yield run
    for popen in started:
        for pid in [*process_table.ProcessTable().below(popen.pid), popen.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        popen.wait()
        popen.stdout.close()


FAMILY = (
    "import subprocess, sys, time;"
    "a = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'], start_new_session=True);"
    "b = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)']);"
    "print(a.pid, b.pid, flush=True); time.sleep(60)"
)


def test_members_are_the_session_and_all_below_it(start):
    leader = start(FAMILY, start_new_session=True)
    children = [int(word) for word in leader.stdout.readline().split()]
    assert process_table.ProcessTable().members(leader.pid) == {leader.pid, *children}
    assert process_table.ProcessTable().below(leader.pid) == set(children)


def test_processes_that_ended_have_no_members_below_them(start):
    gone = start("pass")
    until(lambda: not process_table.alive(gone.pid), WAIT_S)  # a zombie is dead
    assert process_table.ProcessTable().below(gone.pid) == set()
    assert process_table.ProcessTable().below(2**22 - 1) == set()
    assert not process_table.alive(2**22 - 1)


def test_a_cookie_finds_its_own_attempt_only(start):
    environments = [{**os.environ, COOKIE: process_table.make_cookie("run-1", "a b/0", attempt)} for attempt in (1, 10)]
    first, tenth = (start("import time; print(flush=True); time.sleep(60)", env=env) for env in environments)
    for popen in (first, tenth):
        popen.stdout.readline()
    assert process_table.escaped_from(process_table.make_cookie("run-1", "a b/0", 1)) == [first.pid]
    assert process_table.escaped_from(process_table.make_cookie("run-1", "a b/0", 10)) == [tenth.pid]
    assert process_table.escaped_from(process_table.make_cookie("run-1", "a b/0", 1), [tenth.pid]) == []


def test_a_fork_shows_the_cookie_that_was_written_over_the_first_one(start):
    # Given a process that was started with a helper's cookie, and writes a node's over it.
    cookie = process_table.make_cookie("run-1", "Köln 東京/0", 1)
    code = f"""
import os, sys, time
sys.path[:] = {sys.path!r}
from kourou.runtime.process import process_table
process_table.show_cookie({cookie!r})
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
time.sleep(60)
"""
    env = {**os.environ, COOKIE: process_table.make_cookie("run-1"), "LAST": "kept"}
    parent = start(code, env=env)
    fork = psutil.Process(int(parent.stdout.readline()))
    # Then the fork is found by it, and the rest of the environment is as it was.
    assert sorted(process_table.escaped_from(cookie)) == sorted([parent.pid, fork.pid])
    shown = fork.environ()
    assert shown["LAST"] == "kept"
    assert shown[COOKIE].rstrip(" ") == cookie
    fork.kill()


def test_a_cookie_that_has_no_room_is_not_written():
    before = psutil.Process().environ()
    process_table.show_cookie("x" * 100_000)
    assert psutil.Process().environ() == before


def test_signals_reach_all_but_this_process(start):
    popen = start("import time; time.sleep(60)")
    process_table.signal_all([os.getpid(), popen.pid, 2**22 - 1])
    assert popen.wait(WAIT_S) == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows other processes' limits")
def test_a_mark_stays_with_what_cleared_its_environment_and_left_its_session():
    # Given a process that marked itself, whose grandchild has neither its environment nor its session nor a parent
    code = (
        "import subprocess; from kourou.runtime.process import process_table; process_table.mark_own(); "
        "subprocess.run('env -i setsid sleep 60 & echo $!', shell=True); input()"
    )
    first = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    daemon = int(first.stdout.readline())
    try:
        until(lambda: os.getsid(daemon) == daemon, WAIT_S)
        # When, Then
        assert process_table.node_of(daemon) == first.pid
        assert process_table.node_of(os.getpid()) is None
        assert process_table.node_of(2**22 - 1) is None
    finally:
        os.kill(daemon, signal.SIGKILL)
        first.communicate("")


NO_PROC = """
import sys, kourou as lp
program = lp.Program("no-proc")
program.add_node(lp.PyNode(lp.stop), label="node")
lp.launch(program, sys.argv[1], terminal="output_to_files").wait()
"""


@needs_root
@pytest.mark.parametrize(("launch_type", "words"), [("local_mp", "/proc, which is not mounted here"), ("local_mt", "")])
def test_without_proc_threads_run_and_processes_are_refused_before_anything_starts(launch_type, words):
    command = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /proc && exec "$@"', "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", NO_PROC, launch_type],
        check=False,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (done.returncode == 0) is (not words), done.stderr
    assert words in done.stderr
