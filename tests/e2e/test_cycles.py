"""Programs that start and stop many times, or are large, leave nothing behind."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import kourou as lp
from kourou import courier
from leaks import Snapshot
from optional import pytest
from polling import WAIT_S, marked

FEW, MANY = 5, 60  # a leak of one thing a cycle shows in both; the rest needs time
QUICK = lp.StopTimeline(ask_s=20.0)
SETTLE_S = 5.0


class Server:
    def __init__(self):
        self.seen = set()

    def hello(self, index):
        self.seen.add(index)
        return len(self.seen)


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))  # those of gRPC, which Python does not know of, included


def work(server):
    server.hello(lp.get_context().index)
    lp.wait_for_stop()


def _cycle(launch_type: str) -> None:
    program = lp.Program("cycle")
    handle = program.add_node(lp.CourierNode(Server), label="server")
    program.add_node(lp.PyNode(work, handle), label="worker")
    with lp.launch(program, launch_type, stop_timeline=QUICK, terminal="output_to_files") as run:
        client = handle.dereference()
        assert client.hello(7) >= 1
        courier.close(client)
    assert run.failures == ()


@pytest.mark.parametrize("cycles", [FEW, pytest.param(MANY, marks=pytest.mark.soak)])
@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_cycles_leave_nothing_behind(launch_type, cycles, runs_dir, tmp_path_factory, monkeypatch):
    temporary = tmp_path_factory.mktemp("t")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    # Given a process in which everything that is made once was made.
    for _ in range(2):
        _cycle(launch_type)
    before = Snapshot.take(runs_dir)
    threads_before = _threads()
    # When programs start and stop.
    for _ in range(cycles):
        _cycle(launch_type)
    # Then there is no process, thread, descriptor (sockets are such) or shared memory segment more.
    assert before.leftovers_after(SETTLE_S) == []
    assert _threads() <= threads_before + 2  # gRPC ends its own when it likes; one a cycle would show
    assert marked(runs_dir) == []
    assert not list(temporary.glob("kourou-*/*"))


@pytest.mark.parametrize("workers", [12, pytest.param(64, marks=pytest.mark.soak)])
def test_many_workers_start_answer_and_stop(workers, runs_dir):
    # Given a program of many processes that all call one server.
    program = lp.Program("many")
    handle = program.add_node(lp.CourierNode(Server), label="server")
    with program.group("worker"):
        for _ in range(workers):
            program.add_node(lp.PyNode(work, handle))
    # When it is started.
    with lp.launch(program, "local_mp", stop_timeline=QUICK, terminal="output_to_files") as run:
        client = handle.dereference()
        deadline = time.monotonic() + WAIT_S
        while client.hello(0) < workers and time.monotonic() < deadline:
            threading.Event().wait(0.02)
        # Then all of them called, and all end when it stops.
        assert client.hello(0) == workers
        courier.close(client)
        assert len({record.pid for record in run.nodes.values()}) == workers + 1
    assert {record.state for record in run.nodes.values()} == {lp.NodeState.FINISHED}
    assert marked(runs_dir) == []


def test_a_program_that_is_stopped_while_it_starts_ends_as_well(runs_dir):
    # Given a program that is stopped at once, with processes at every stage of their start.
    for _ in range(3):
        program = lp.Program("early")
        handle = program.add_node(lp.CourierNode(Server), label="server")
        with program.group("worker"):
            for _ in range(6):
                program.add_node(lp.PyNode(work, handle))
        run = lp.launch(program, "local_mp", stop_timeline=QUICK, terminal="output_to_files")
        # When it is stopped.
        run.stop()
        # Then it ends without failures.
        assert run.ended
        assert run.failures == ()
    assert marked(runs_dir) == []
