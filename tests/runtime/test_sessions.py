"""Finding the processes of a node, and the zygote's channel."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import psutil
import pytest

from kourou.runtime import sessions
from kourou.runtime.channel import Channel
from polling import until

WAIT_S = 10.0


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
        for pid in [*sessions.descendants(popen.pid), popen.pid]:
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
    assert sessions.members(leader.pid) == sorted([leader.pid, *children])
    assert sorted(sessions.descendants(leader.pid)) == sorted(children)


def test_processes_that_ended_have_no_members_below_them(start):
    gone = start("pass")
    until(lambda: not sessions.alive(gone.pid), WAIT_S)  # a zombie is dead
    assert sessions.descendants(gone.pid) == []
    assert sessions.descendants(2**22 - 1) == []
    assert not sessions.alive(2**22 - 1)


def test_a_cookie_finds_its_own_attempt_only(start):
    environments = [
        {**os.environ, sessions.COOKIE: sessions.make_cookie("run-1", "a b/0", attempt)} for attempt in (1, 10)
    ]
    first, tenth = (start("import time; print(flush=True); time.sleep(60)", env=env) for env in environments)
    for popen in (first, tenth):
        popen.stdout.readline()
    assert sessions.escaped_from(sessions.make_cookie("run-1", "a b/0", 1)) == [first.pid]
    assert sessions.escaped_from(sessions.make_cookie("run-1", "a b/0", 10)) == [tenth.pid]
    assert sessions.escaped_from(sessions.make_cookie("run-1", "a b/0", 1), [tenth.pid]) == []


def test_a_fork_shows_the_cookie_that_was_written_over_the_first_one(start):
    # Given a process that was started with a helper's cookie, and writes a node's over it.
    cookie = sessions.make_cookie("run-1", "Köln 東京/0", 1)
    code = f"""
import os, sys, time
sys.path[:] = {sys.path!r}
from kourou.runtime import sessions
sessions.show_cookie({cookie!r})
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
time.sleep(60)
"""
    env = {**os.environ, sessions.COOKIE: sessions.make_cookie("run-1"), "LAST": "kept"}
    parent = start(code, env=env)
    fork = psutil.Process(int(parent.stdout.readline()))
    # Then the fork is found by it, and the rest of the environment is as it was.
    assert sorted(sessions.escaped_from(cookie)) == sorted([parent.pid, fork.pid])
    shown = fork.environ()
    assert shown["LAST"] == "kept"
    assert shown[sessions.COOKIE].rstrip(" ") == cookie
    fork.kill()


def test_a_cookie_that_has_no_room_is_not_written():
    before = psutil.Process().environ()
    sessions.show_cookie("x" * 100_000)
    assert psutil.Process().environ() == before


def test_signals_reach_all_but_this_process(start):
    popen = start("import time; time.sleep(60)")
    sessions.signal_all([os.getpid(), popen.pid, 2**22 - 1])
    assert popen.wait(WAIT_S) == -signal.SIGKILL


def test_messages_and_descriptors_go_through_a_channel_whole():
    left, right = (Channel(sock) for sock in socket.socketpair())
    read_end, write_end = os.pipe()
    message = {"text": "東京 \udcff", "large": "x" * 3_000_000}
    sender = threading.Thread(target=left.send, args=(message, (write_end,)))
    sender.start()
    got = right.receive()
    assert got is not None
    received, fds = got
    sender.join()
    assert received == message
    os.write(fds[0], b"through")
    assert os.read(read_end, 100) == b"through"
    left.close()
    assert right.receive() is None
    right.close()
    for fd in (read_end, write_end, *fds):
        os.close(fd)


def test_a_fork_closes_its_copy_of_a_channel():
    # Given a channel, and a fork that lives on.
    left, right = (Channel(sock) for sock in socket.socketpair())
    gate_r, gate_w = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(gate_w)
        os.read(gate_r, 1)
        os._exit(0)
    # When this process closes its end, then the other one is told so although the fork lives.
    left.close()
    right.socket.settimeout(WAIT_S)
    assert right.receive() is None
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.close(gate_w)
    os.waitpid(child, 0)
    os.close(gate_r)
    right.close()
