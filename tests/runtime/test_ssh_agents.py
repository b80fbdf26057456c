"""Agents on this machine, started as on other hosts: what cannot begin leaves nothing, what ends is told once."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kourou as lp
from kourou.runtime.host_agent.dial_order import ENTRY, DialOrder
from kourou.runtime.launchers.ssh.connection import SshAgent, SshOptions, kill_session
from kourou.runtime.launchers.ssh.transport import with_inventories
from kourou.testing.engines import LocalHosts
from leaks import DESCRIPTORS
from optional import psutil, pytest
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")

HERE = "127.0.0.1", "127.0.0.2"


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let threads of a name not start, as where a user has as many as he may have."""

    def of_name(name: str) -> None:
        start = threading.Thread.start

        def start_or_refuse(thread: threading.Thread) -> None:
            if thread.name.startswith(name):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_or_refuse)

    return of_name


def agent(on_lost: Callable[[lp.errors.AgentFailedError], Any] = lambda _: None) -> SshAgent:
    options = SshOptions(cwd=str(Path.cwd()), local=True)
    return SshAgent("localhost", options, entry=ENTRY, on_message=lambda *_: None, on_lost=on_lost)


def test_an_agent_that_nobody_could_listen_to_is_ended(refuse: Callable[[str], None]) -> None:
    refuse("kourou-agent-")
    with pytest.raises(RuntimeError, match="cannot start the thread kourou-"):
        agent()


def test_the_hosts_that_were_asked_are_left_when_another_one_cannot_be(refuse: Callable[[str], None]) -> None:
    refuse("kourou-host-127.0.0.2")
    with pytest.raises(RuntimeError, match="cannot start the thread kourou-"):
        with_inventories(lp.Hosts(HERE))


def test_so_are_those_that_a_program_was_to_run_on(refuse: Callable[[str], None]) -> None:
    program = lp.Program("refused")
    for _ in HERE:
        program.add_node(lp.PyNode(print), label="worker")
    refuse("kourou-host-127.0.0.2")
    with pytest.raises(RuntimeError, match="cannot start the thread kourou-"):
        lp.launch(program, "ssh", hosts=lp.Hosts(HERE))


def test_a_node_of_a_lost_host_that_no_thread_is_left_to_call_again_could_not_start(
    refuse: Callable[[str], None],
) -> None:
    # Given a host that is lost, while there are no more threads
    program = lp.Program("refused")
    with program.group("worker", on_failure=lp.Restart(max_times=1)):
        program.add_node(lp.PyNode(lp.wait_for_stop))
    told = "could not start: cannot start the thread kourou-host-"
    with pytest.raises(lp.errors.ProgramFailed, match=told), lp.launch(program, "ssh", hosts=lp.Hosts(HERE[1:])) as run:
        until(lambda: run.nodes["worker/0"].state is lp.NodeState.READY, WAIT_S)
        node = psutil.Process(run.nodes["worker/0"].pid)
        agent = next(one for one in node.parents() if "pipe_agent" in " ".join(one.cmdline()))
        refuse("kourou-host-")
        agent.kill()
        # When, then
        until(lambda: run.ended, WAIT_S)


def test_hosts_are_closed_one_after_the_other_where_there_are_no_more_threads(refuse: Callable[[str], None]) -> None:
    refuse("kourou-close-")
    assert all(host.inventory for host in with_inventories(lp.Hosts(HERE)).all)


def test_a_launcher_that_cannot_tell_its_agents_where_it_listens_listens_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(order: DialOrder, path: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(DialOrder, "write", write)
    program = lp.Program("refused")
    program.add_node(lp.PyNode(print), label="worker")
    with pytest.raises((OSError, lp.errors.LaunchError), match="no space"):
        lp.launch(program, LocalHosts())


def test_an_agent_that_nobody_could_write_to_is_ended(refuse: Callable[[str], None]) -> None:
    refuse("kourou-wire")
    with pytest.raises(RuntimeError, match="cannot start the thread kourou-"):
        agent()


def test_one_that_ends_at_the_moment_at_which_it_is_killed_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as process:

        def too_late(pid: int, number: int) -> None:
            raise ProcessLookupError

        with monkeypatch.context() as patched:
            patched.setattr(os, "killpg", too_late)
            kill_session(process)


def test_its_loss_is_told_once_though_two_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[object] = []
    one = agent(lost.append)
    one.await_ready()
    other = threading.Thread(target=one._lose, args=("another end",))
    real = one._popen.wait

    def wait(timeout_s: float | None = None) -> int:
        if threading.current_thread() is not other and not other.ident:
            other.start()
            other.join(0.2)  # as far as it gets
        return real(timeout_s)

    monkeypatch.setattr(one._popen, "wait", wait)
    one._lose("an end")
    other.join(WAIT_S)
    assert len(lost) == 1
    one.close()


def test_one_that_the_systems_error_ends_says_which_it_was() -> None:
    # Given an agent
    lost: queue.SimpleQueue[lp.errors.AgentFailedError] = queue.SimpleQueue()
    one = agent(lost.put)
    one.await_ready()
    # When it cannot write what it is sent
    one.send("blob", "no folder/payload", b"")
    # Then
    assert "No such file or directory" in str(lost.get(timeout=WAIT_S))
    one.close()


def descriptors() -> int:
    return len(list(DESCRIPTORS.iterdir()))


def test_one_that_is_lost_keeps_nothing_though_it_is_not_closed_yet() -> None:
    # Given an agent
    before, lost = descriptors(), threading.Event()
    one = agent(lambda _: lost.set())
    one.await_ready()
    # When
    one._popen.kill()
    # Then
    assert lost.wait(WAIT_S)
    until(lambda: descriptors() <= before and not one._thread.is_alive(), WAIT_S)
    one.close()


def test_nor_does_one_that_did_not_answer_in_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Given a host that ssh does not get to
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho it hangs >&2\nsleep 600\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    before, options = descriptors(), SshOptions(cwd="/", timeout_s=0.05)
    one = SshAgent("nowhere", options, entry=ENTRY, on_message=lambda *_: None, on_lost=lambda _: None)
    # When
    with pytest.raises(lp.errors.AgentFailedError, match="no agent answered in time; ssh said:\n *it hangs"):
        one.await_ready()
    # Then
    until(lambda: descriptors() <= before and not one._thread.is_alive(), WAIT_S)
    one.close()
