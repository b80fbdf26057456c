"""The supervisor, with commands in place of nodes."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from pathlib import Path

import psutil
import pytest

from kourou import errors
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.records import NO_SIGNAL
from kourou.runtime.process.preload import COMMANDS
from kourou.runtime.process.supervisor import Supervisor
from polling import WAIT_S, alive, marked, until

pytestmark = pytest.mark.usefixtures("no_leaks")


class Events:
    """Records what the supervisor tells."""

    def __init__(self):
        self.started = {}
        self.lines = []
        self.exits = {}
        self._changed = threading.Condition()

    def on_started(self, name, attempt, pid):
        self.started[name] = pid

    def on_line(self, name, line, stream):
        self.lines.append((name, line, stream))

    def on_exited(self, name, attempt, exit):  # noqa: A002 - the protocol's name
        with self._changed:
            self.exits[name, attempt] = exit
            self._changed.notify_all()

    def wait(self, name, attempt=1):
        with self._changed:
            assert self._changed.wait_for(lambda: (name, attempt) in self.exits, WAIT_S), (name, self.lines)
            return self.exits[name, attempt]


@pytest.fixture
def supervised(tmp_path):
    events = Events()
    with Supervisor(events, run_id="test-run", folder=tmp_path, preload=COMMANDS) as supervisor:
        yield supervisor, events


def sh(name, script, **options):
    return ProcessSpec(name=name, argv=("sh", "-c", script), **options)


def start(supervised, spec, attempt=1):
    supervisor, events = supervised
    supervisor.start(spec, attempt, {"cpus": None, "memory_bytes": None})
    return events


@pytest.mark.parametrize(
    ("script", "code", "number"),
    [("exit 0", 0, None), ("exit 3", 3, None), ("kill -9 $$", None, 9), ("kill -15 $$", None, 15)],
    ids=["0", "3", "SIGKILL", "SIGTERM"],
)
def test_each_exit_is_told_with_code_or_signal(script, code, number, supervised):
    events = start(supervised, sh("a b/0", script))
    exited = events.wait("a b/0")
    assert (exited.code, exited.signal) == (code, number)
    assert events.started["a b/0"] > 0


def test_a_command_that_does_not_exist_is_an_exit_with_words(supervised):
    events = start(supervised, ProcessSpec(name="no/0", argv=("/no/such command",)))
    exited = events.wait("no/0")
    assert exited.code == 127
    assert "no/such command" in "\n".join(exited.last_lines)
    assert exited.cause.startswith("could not start: [Errno 2]")


def test_a_working_folder_that_does_not_exist_is_an_exit_with_words(supervised, tmp_path):
    events = start(supervised, sh("no/0", "true", cwd=str(tmp_path / "no such")))
    exited = events.wait("no/0")
    assert exited.code == 127
    assert "no such" in "\n".join(exited.last_lines)


def test_lines_come_whole_in_order_and_before_the_exit(supervised):
    events = start(supervised, sh("a/0", "for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf end"))
    exited = events.wait("a/0")
    wanted = [f"{word} {i}" for i in (1, 2, 3) for word in ("out", "err")] + ["end"]
    assert [line for _, line, _ in events.lines] == wanted
    assert exited.last_lines == tuple(wanted)


def test_streams_can_be_kept_apart(supervised):
    events = start(supervised, sh("a/0", "echo out; echo err >&2", merge_stderr=False))
    events.wait("a/0")
    assert sorted(events.lines) == [("a/0", "err", "stderr"), ("a/0", "out", "stdout")]


def test_only_the_last_lines_are_kept_for_the_report(supervised):
    events = start(supervised, sh("a/0", "seq 1 1000"))
    assert events.wait("a/0").last_lines == tuple(str(i) for i in range(951, 1001))
    assert len(events.lines) == 1000


def test_environment_and_folder_are_as_they_were_asked_for(supervised, tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    hostile = "a b'c\"$(x)\n=東京"
    spec = sh("a/0", 'pwd; printf "%s" "$HOSTILE"', cwd=str(folder), env=(("HOSTILE", hostile),))
    events = start(supervised, spec)
    assert events.wait("a/0").last_lines == (str(folder), *hostile.split("\n"))


def test_signals_go_to_the_session_and_to_the_process_alone(supervised):
    supervisor, _ = supervised
    script = "trap 'echo got it; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    events = start(supervised, sh("a/0", script))
    until(lambda: ("a/0", "ready", "stdout") in events.lines, WAIT_S)
    supervisor.signal("a/0", signal.SIGTERM)
    assert events.wait("a/0").code == 0
    assert ("a/0", "got it", "stdout") in events.lines
    supervisor.signal("a/0", signal.SIGKILL)  # it is gone: nothing happens
    supervisor.signal("unknown/0", signal.SIGKILL)


def test_what_a_process_left_behind_is_gone_when_its_exit_is_told(supervised, runs_dir):
    events = start(supervised, sh("a/0", "sleep 600 & (setsid sleep 600 &); echo started"))
    assert events.wait("a/0").code == 0
    sleeping = [process for process in marked(runs_dir) if "sleep" in process.name()]
    assert sleeping == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose a daemon without an environment is")
def test_a_daemon_without_environment_or_parent_is_gone_with_its_node_and_no_other(supervised):
    # given two processes that leave such a daemon behind
    script = "env -i setsid sh -c 'echo daemon $$; exec sleep 600' & sleep 600"
    events = start(supervised, sh("a/0", script))
    start(supervised, sh("b/0", script))

    def daemons():
        told = {name: line.partition("daemon ")[2] for name, line, _ in events.lines}
        return {name: psutil.Process(int(pid)) for name, pid in told.items()} if len(told) == 2 else None

    started = until(daemons, WAIT_S, "both daemons")
    # when one of the two is killed
    os.kill(events.started["a/0"], signal.SIGKILL)
    events.wait("a/0")
    # then its daemon is dead, and the other's is not
    assert not alive(started["a/0"])
    assert alive(started["b/0"])


def test_hundreds_of_short_processes_are_started_and_all_their_ends_are_told(supervised):
    _, events = supervised
    for i in range(200):
        start(supervised, sh(f"a/{i}", "exit 3"))
    assert {events.wait(f"a/{i}").code for i in range(200)} == {3}


def suspended_zygote(supervised):
    """The zygote of a process ``first/0``."""
    _, events = supervised
    start(supervised, sh("first/0", "sleep 600"))
    until(lambda: "first/0" in events.started, WAIT_S)
    zygote = psutil.Process(events.started["first/0"]).parent()
    assert zygote is not None
    zygote.suspend()
    return zygote


def test_what_was_not_begun_when_it_is_signalled_never_is(supervised):
    # given a zygote that takes no more requests, since it is stopped
    supervisor, events = supervised
    zygote = suspended_zygote(supervised)
    padding = tuple((f"PADDING_{i}", "x" * 10_000) for i in range(10))
    for i in range(50):
        start(supervised, sh(f"a/{i}", "sleep 600", env=padding))
    # when the last ones are asked to end, killed, and withdrawn
    supervisor.signal("a/49", signal.SIGURG)
    supervisor.signal("a/47", NO_SIGNAL)
    supervisor.signal("a/48", signal.SIGKILL)
    # then they have ended before anything was started for them
    assert (events.wait("a/49").code, events.wait("a/49").signal) == (0, None)
    assert (events.wait("a/48").code, events.wait("a/48").signal) == (None, signal.SIGKILL)
    assert (events.wait("a/47").code, events.wait("a/47").signal) == (0, None)
    zygote.resume()
    until(lambda: "a/46" in events.started, WAIT_S)
    supervisor.signal("a/46", NO_SIGNAL)  # which does nothing to it
    assert not {"a/47", "a/48", "a/49"} & events.started.keys()


def test_a_signal_arrives_though_the_zygote_takes_nothing_for_a_while(supervised):
    # given a zygote that is stopped with more to read than its socket holds
    supervisor, events = supervised
    zygote = suspended_zygote(supervised)
    for _ in range(5_000):
        supervisor.signal("first/0", signal.SIGURG)
    # when it goes on
    supervisor.signal("first/0", signal.SIGKILL)
    zygote.resume()
    # then
    assert events.wait("first/0").signal == signal.SIGKILL


def test_who_asks_for_something_does_not_wait_until_the_supervisor_looks(supervised):
    # given one who is told of a line, in the supervisor's own thread
    supervisor, events = supervised

    def ask(name, line, stream):
        for _ in range(5_000):
            supervisor.signal("other/0", signal.SIGTERM)

    events.on_line = ask
    # when, then
    start(supervised, sh("a/0", "echo line"))
    assert events.wait("a/0").code == 0


def test_while_output_is_held_who_prints_waits_and_signals_arrive(supervised):
    # given output that is not read for the time being
    supervisor, events = supervised
    supervisor.pause_output(True)
    start(supervised, sh("loud/0", "seq 1 100000; echo end; sleep 600"))
    start(supervised, sh("ended/0", "echo last words"))
    # when one process is killed meanwhile, and another one ends
    until(lambda: "loud/0" in events.started, WAIT_S)
    assert events.wait("ended/0").last_lines == ("last words",)
    assert [line for name, line, _ in events.lines if name == "loud/0"] == []
    supervisor.pause_output(False)
    until(lambda: ("loud/0", "end", "stdout") in events.lines, WAIT_S)
    supervisor.pause_output(True)
    supervisor.signal("loud/0", signal.SIGKILL)
    # then nothing is lost
    assert events.wait("loud/0").signal == signal.SIGKILL
    assert len([line for name, line, _ in events.lines if name == "loud/0"]) == 100_001


def test_close_kills_what_runs_and_is_idempotent(tmp_path, runs_dir):
    events = Events()
    supervisor = Supervisor(events, run_id="test-run", folder=tmp_path, preload=COMMANDS)
    start((supervisor, events), sh("a/0", "trap '' TERM; while :; do sleep 0.05; done"))
    until(lambda: "a/0" in events.started, WAIT_S)
    supervisor.close()
    supervisor.close()
    assert marked(runs_dir) == []


def test_a_second_attempt_is_told_apart_from_the_first(supervised):
    events = start(supervised, sh("a/0", "exit 1"))
    assert events.wait("a/0", 1).code == 1
    start(supervised, sh("a/0", "exit 2"), attempt=2)
    assert events.wait("a/0", 2).code == 2


def test_no_descriptors_of_the_launcher_reach_a_process(supervised, tmp_path):
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        events = start(supervised, sh("a/0", f"ls -l /proc/self/fd; echo {sys.executable}"))
        events.wait("a/0")
    assert not [line for _, line, _ in events.lines if line.endswith("/open")]


def test_a_fault_of_the_supervisor_ends_all_and_is_told_to_those_who_wait(supervised, caplog):
    # given two processes, and somebody who is told what they print and fails at that
    supervisor, events = supervised

    def fail(_name, _line, _stream):
        raise ZeroDivisionError("no good")

    events.on_line = fail
    start(supervised, sh("quiet/0", "sleep 100"))
    until(lambda: "quiet/0" in events.started, WAIT_S, "the first to start")
    # when
    start(supervised, sh("loud/0", "echo hello; sleep 100"))
    # then both are gone, and known to be
    for name in ("quiet/0", "loud/0"):
        assert "ZeroDivisionError('no good')" in events.wait(name).cause
    assert "the supervisor failed" in caplog.text
    # and who asks for more is told, too
    with pytest.raises(errors.LaunchError, match="cannot be started"):
        start(supervised, sh("late/0", "true"))
    supervisor.close()


def test_no_more_descriptors_is_an_exit_with_words_and_the_others_live_on(supervised):
    events = start(supervised, sh("first/0", "sleep 100"))
    until(lambda: "first/0" in events.started, WAIT_S, "the first to start")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    taken = [os.open(os.devnull, os.O_RDONLY)]
    while taken[-1] <= highest:  # those below are not all in use
        taken.append(os.open(os.devnull, os.O_RDONLY))
    os.close(taken.pop())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    try:
        start(supervised, sh("second/0", "true"))
        exited = events.wait("second/0")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)
    assert exited.code == 127
    assert "Too many open files" in "\n".join(exited.last_lines)
    assert "ulimit -n" in "\n".join(exited.last_lines)
    assert "could not start" in exited.cause
    start(supervised, sh("third/0", "exit 4"))
    assert events.wait("third/0").code == 4


def test_what_was_not_begun_when_the_supervisor_failed_is_told_as_well(supervised, monkeypatch, caplog):
    # given two starts, of which the first meets a fault
    supervisor, events = supervised
    go_on = threading.Event()
    supervisor._post(lambda: go_on.wait(WAIT_S))

    def fail(*_):
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(supervisor._zygotes, "find", fail)
    # when both were asked for before it came
    start(supervised, sh("first", "sleep 60"))
    start(supervised, sh("second", "sleep 60"))
    go_on.set()
    # then nobody waits for either
    assert [events.wait(name).signal for name in ("first", "second")] == [signal.SIGKILL] * 2
    assert "was lost to a fault of kourou itself" in events.exits["second", 1].cause
    assert "the supervisor failed" in caplog.text
