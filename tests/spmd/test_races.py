"""What comes at an odd moment: Ctrl-C, a close, a lost host, a late answer, a start that fails halfway."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import os
import queue
import signal
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, cast

from kourou import errors
from kourou.courier.wire import codec
from kourou.nodes.ranks import Place, Rendezvous
from kourou.runtime.launchers.ssh.connection import SshAgent, SshOptions
from kourou.runtime.model.records import ProcessExit
from kourou.spmd import Launcher, Line
from kourou.spmd.hosts.local import LocalHost, WorkerEvents, WorkerSpec
from kourou.spmd.hosts.places import Host, assign_ranks
from kourou.spmd.hosts.remote import ENTRY, RemoteHost
from kourou.spmd.hosts.service import HostService
from kourou.spmd.launch.host_pool import HostPool
from kourou.spmd.launch.job import Cancelled, Job, JobSpec
from kourou.spmd.launch.output import Output
from kourou.spmd.launch.results import LaunchFuture
from kourou.spmd.worker import parcel
from kourou.spmd.worker.main import Returned
from optional import pytest
from polling import WAIT_S, until
from spmd import functions

HERE = Host(name="here", workers=2, local=True)
PLACES = assign_ranks([HERE])
RENDEZVOUS = Rendezvous(address="127.0.0.1", port=1)
SSH = SshOptions(config_file=None, timeout_s=WAIT_S, cwd=str(Path.cwd()))


def worker(place: Place) -> WorkerSpec:
    return WorkerSpec(
        place=place, rendezvous=RENDEZVOUS, env={}, cwd=SSH.cwd, backend=None, timeout_s=1.0, log_level=20
    )


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


# -- the launcher ----------------------------------------------------------------------------------------------------


def test_ctrl_c_while_ranks_run_is_what_run_raises(gloo2: Launcher, tmp_path: Path) -> None:
    # Given a user who has seen that a rank has begun
    def stop(line: Line) -> None:
        if line.text.startswith("rank 0") and "is process" in line.text:
            os.kill(os.getpid(), signal.SIGINT)

    # When, then: it is not hidden by an exception, which scripts may catch
    with pytest.raises(KeyboardInterrupt):
        gloo2.set_on_output(stop).run(functions.announce_and_wait, tmp_path)


class Gate:
    """Holds up whoever connects in another thread than this one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, instead: BaseException | None = None) -> None:
        self.here, self.opened = threading.Event(), threading.Event()
        connect, test = HostPool.connect, threading.current_thread()

        def gated(pool: HostPool, *args: Any) -> Any:
            if threading.current_thread() is not test:
                self.here.set()
                assert self.opened.wait(WAIT_S)
                if instead is not None:
                    raise instead
            return connect(pool, *args)

        monkeypatch.setattr(HostPool, "connect", gated)


def test_a_run_that_has_not_come_to_its_workers_is_ended_by_a_close(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a run that still connects to its hosts
    gate, launcher = Gate(monkeypatch), Launcher(["localhost"], workers_per_host=1, backend=None)
    future = launcher.submit(functions.rank)
    assert gate.here.wait(WAIT_S)
    # When
    closing = threading.Thread(target=launcher.close)
    closing.start()
    until(lambda: not closing.is_alive() or _is_cancelled(launcher), WAIT_S)
    gate.opened.set()
    closing.join(WAIT_S)
    # Then close() has waited for its end, and nothing was begun
    assert future.done()
    assert future.cancelled()


def _is_cancelled(launcher: Launcher) -> bool:
    return all(submission._cancelled for submission in list(launcher._pool._submissions))


def test_a_launcher_that_nobody_refers_to_lives_until_its_run_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    gate = Gate(monkeypatch, LookupError("so far it came"))
    launcher = Launcher(["localhost"], workers_per_host=1, backend=None)
    future, there = launcher.submit(functions.rank), weakref.ref(launcher)
    assert gate.here.wait(WAIT_S)
    # When
    del launcher
    gc.collect()
    # Then
    assert there() is not None
    gate.opened.set()
    assert isinstance(future.exception(WAIT_S), LookupError)
    until(lambda: there() is None, WAIT_S)


@pytest.mark.usefixtures("without_torch")
def test_a_run_that_is_submitted_while_its_launcher_is_closed_ends(tmp_path: Path) -> None:
    # Given a run that comes when those before it are being cancelled
    launcher = Launcher(["localhost"], workers_per_host=1, backend=None).set_logging_handlers(None)
    submissions: set[Any] = launcher._pool._submissions
    submitted: list[LaunchFuture[None]] = []

    class Earlier:
        thread = threading.Thread(target=print)

        def cancel(self) -> None:
            submissions.remove(self)
            submitted.append(launcher.submit(functions.announce_and_wait, tmp_path))
            until((tmp_path / "0.pid").exists, WAIT_S)

    Earlier.thread.start()
    submissions.add(Earlier())
    # When
    launcher.close()
    # Then
    with pytest.raises(CancelledError):
        submitted[0].result(10.0)


@pytest.fixture
def reached_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, without_torch: None) -> Path:
    """A folder where there is ``again`` once ssh is asked a second time for a host that it reached at first."""
    del without_torch
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f"""#!/bin/sh
for last; do :; done
mkdir {tmp_path}/once 2> /dev/null && exec sh -c "$last"
touch {tmp_path}/again
exec sleep 600
"""
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def launcher_there(retries: int = 0) -> Launcher:
    there = Launcher(["there"], workers_per_host=1, backend=None, retries=retries, agent_timeout_s=30)
    return there.set_logging_handlers(None)


def test_a_run_that_is_cancelled_while_it_connects_once_more_is_tried_no_more(reached_once: Path) -> None:
    # Given a run whose host was lost, and cannot be reached again
    with launcher_there(retries=3) as launcher:
        future = launcher.submit(functions.announce_and_wait, reached_once)
        until((reached_once / "0.pid").exists, WAIT_S)
        cast("SshAgent", next(iter(launcher._pool._remote.values()))._agent)._popen.kill()
        until((reached_once / "again").exists, WAIT_S)
        # When, then
        future.cancel()
        with pytest.raises(CancelledError):
            future.result(WAIT_S)


def test_a_host_that_another_run_let_go_of_in_between_is_lost(
    monkeypatch: pytest.MonkeyPatch, reached_once: Path
) -> None:
    # Given a run that has connected, and one that could not, and so let go of their hosts
    del reached_once
    new_job = HostPool.new_job

    def too_late(pool: HostPool, *arguments: Any) -> Job:
        for host in pool._remote.values():
            host.close()
        pool._remote.clear()
        return new_job(pool, *arguments)

    monkeypatch.setattr(HostPool, "new_job", too_late)
    # When, then
    with launcher_there() as launcher, pytest.raises(errors.AgentFailedError, match="there: the connection to its"):
        launcher.run(functions.rank)


def test_hosts_that_were_reached_are_closed_where_there_is_no_thread_for_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a system with one more thread
    closed: list[str] = []
    start = threading.Thread.start

    class Reached:
        name = "first"

        def close(self) -> None:
            closed.append(self.name)

    def connect(_name: str, _way: object, abandoned: threading.Event) -> Reached:
        assert abandoned.wait(WAIT_S)
        return Reached()

    def start_or_refuse(thread: threading.Thread) -> None:
        if thread.name == "kourou-connect_1":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr("kourou.spmd.launch.host_pool._connect", connect)
    monkeypatch.setattr(threading.Thread, "start", start_or_refuse)
    # When, then
    with pytest.raises(errors.LaunchError, match="cannot start the thread kourou-connect"):
        HostPool().connect(["first", "second"], SSH)
    assert set(closed) == {"first"}


# -- a job -----------------------------------------------------------------------------------------------------------


class Workers:
    """A host whose workers live until they are killed; ``fails`` is called before one is started."""

    def __init__(self, fails: Callable[[Place], None] = lambda _: None) -> None:
        self.alive: set[Place] = set()
        self.released = self.held = False
        self._fails = fails
        self._events: WorkerEvents

    def open_rendezvous(self, run: str, address: str, world_size: int) -> Rendezvous:
        del run, address, world_size
        return RENDEZVOUS

    def start(self, run: str, worker: WorkerSpec, events: WorkerEvents, call: int) -> None:
        del run, call
        self._fails(worker.place)
        self.alive.add(worker.place)
        self._events = events
        events.on_line(worker.place, "here", "stdout")

    def signal(self, run: str, place: Place, number: int) -> None:
        del run
        if number == signal.SIGKILL:  # it hears no other
            self.alive.discard(place)
            self._events.on_exited(place, ProcessExit(code=None, signal=signal.SIGKILL), parcel.create())

    def hold_output(self, run: str, held: bool) -> None:
        del run
        self.held = held

    def release(self, run: str) -> None:
        del run
        self.released = not self.alive


def job_on(workers: Workers) -> Job:
    spec = JobSpec(
        hosts=(HERE,),
        env={},
        local_env={},
        devices={},
        cwd=SSH.cwd,
        backend=None,
        timeout_s=1.0,
        log_level=20,
        way=SSH,
        address="127.0.0.1",
    )
    return Job("a run", spec, lambda _: cast("LocalHost", workers))


def test_workers_that_were_started_are_ended_when_one_cannot_be() -> None:
    # Given
    def fail(place: Place) -> None:
        if place.rank == 1:
            raise OSError("too many open files")

    workers, before = Workers(fail), descriptors()
    # When
    with pytest.raises(OSError, match="too many open files"):
        job_on(workers).run(-1, Output([], None))
    # Then
    assert workers.released
    assert descriptors() == before


def test_workers_are_ended_when_what_they_say_ends_the_run() -> None:
    # Given a callback that leaves by what is no error
    def leave(line: Line) -> None:
        raise SystemExit(3)

    workers, before = Workers(), descriptors()
    # When
    with pytest.raises(SystemExit):
        job_on(workers).run(-1, Output([], leave))
    # Then
    assert workers.released
    assert descriptors() == before


def test_workers_that_print_more_than_their_run_takes_are_held() -> None:
    # Given a run whose callback takes its time with the first line
    told, going_on = threading.Event(), threading.Event()
    lines: list[str] = []

    def take(line: Line) -> None:
        lines.append(line.text)
        told.set()
        assert going_on.wait(WAIT_S)

    workers = Workers()
    job = job_on(workers)
    thread = threading.Thread(target=_run_to_its_end, args=(job, Output([], take)))
    thread.start()
    assert told.wait(WAIT_S)
    # When a worker prints as fast as it can
    printed = 0
    while not workers.held:
        job.on_line(PLACES[0], "more", "stdout")
        printed += 1
        assert printed < 100_000
    # Then it waits, until what it has printed is taken
    going_on.set()
    until(lambda: not workers.held, WAIT_S)
    job.cancel()
    thread.join(WAIT_S)
    assert workers.released
    assert lines.count("more") == printed


def _run_to_its_end(job: Job, output: Output) -> None:
    with contextlib.suppress(Cancelled):
        job.run(-1, output)


# -- hosts -----------------------------------------------------------------------------------------------------------


def test_a_worker_that_could_not_be_started_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a host whose supervisor has ended
    def refuse(*_: object) -> None:
        raise errors.LaunchError("no more")

    host, call = LocalHost(), parcel.create()
    monkeypatch.setattr(host._supervisor, "start", refuse)
    before = descriptors()
    host.open_rendezvous("a run", "127.0.0.1", 2)
    # When
    with pytest.raises(errors.LaunchError):
        host.start("a run", worker(PLACES[0]), job_on(Workers()), call)
    # Then
    assert descriptors() == before
    host.close()
    os.close(call)


class Agent:
    """Leads to no agent: says what it is told to."""

    lost = False

    def __init__(self, on_message: Callable[..., None], on_lost: Callable[[errors.AgentFailedError], None]) -> None:
        self.on_message, self.on_lost = on_message, on_lost
        self.answers: list[tuple[Any, ...]] = []

    def await_ready(self, check: Callable[[], None]) -> None:
        """It is there."""

    def send(self, *message: Any) -> None:
        del message
        while self.answers:
            self.on_message(*self.answers.pop())

    send_bulk = send

    def close(self) -> None:
        """There is nothing."""


def remote() -> tuple[RemoteHost, Agent]:
    agents: list[Agent] = []

    def make(*told: Any) -> Agent:
        agents.append(Agent(*told))
        return agents[0]

    return RemoteHost("there", 0.01, make), agents[0]


def test_a_late_answer_is_not_taken_for_that_to_the_next_question() -> None:
    # Given an agent whose answer came when nobody waited for it any more
    host, agent = remote()
    with pytest.raises(errors.AgentFailedError, match="did not answer within"):
        host.open_rendezvous("first", "127.0.0.1", 2)
    agent.on_message("rendezvous", "first", dataclasses.replace(RENDEZVOUS, port=11))
    # When it is asked again
    agent.answers.append(("rendezvous", "second", dataclasses.replace(RENDEZVOUS, port=22)))
    # Then
    assert host.open_rendezvous("second", "127.0.0.1", 2).port == 22


def test_a_host_that_is_closed_while_it_is_asked_is_asked_no_more() -> None:
    # Given one that has all the time in the world
    host, agent = remote()
    host._timeout_s = WAIT_S

    # When another thread closes it
    def close() -> None:
        agent.lost = True

    # Then
    with pytest.raises(errors.AgentFailedError, match="there: the connection to its agent broke"):
        host.await_ready(close)


def test_a_host_that_was_lost_before_its_first_worker_is_started_is_told_of() -> None:
    # Given a host that is lost before it knows of a run
    host, agent = remote()
    agent.lost = True
    agent.on_lost(errors.AgentFailedError("there: gone"))
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    events = job_on(Workers())
    events.on_lost = lambda hostname, error: told.put(hostname)  # type: ignore[method-assign]
    call = parcel.create()
    # When
    host.start("a run", worker(PLACES[0]), events, call)
    # Then the run does not wait for ever for a worker of it
    assert told.get_nowait() == "there"
    os.close(call)


class LaunchersWire:
    """Leads from an agent to a RemoteHost, and has no memory for the first piece that is sent."""

    ends: tuple[str, str] = "", ""

    def __init__(self, on_message: Callable[..., None]) -> None:
        self._on_message = on_message
        self._is_short = True

    def send(self, *message: Any) -> None:
        self._on_message(*message)

    def send_bulk(self, *message: Any) -> None:
        self._on_message(*message)
        if self._is_short:
            self._is_short = False
            raise MemoryError("no room")

    def end(self, timeout_s: float) -> None:
        """It has none."""


def test_a_result_that_could_not_be_sent_ends_its_rank_and_no_other() -> None:
    # Given two ranks that return the same
    host, _ = remote()
    service = HostService(LaunchersWire(host._on_message))
    job, ended = job_on(Workers()), queue.SimpleQueue[tuple[Place, ProcessExit, Any]]()
    call = parcel.create()
    parcel.write(call, codec.encode(0, "a call"))

    def note(place: Place, end: ProcessExit, outcome_fd: int) -> None:
        ended.put((place, end, parcel.read(outcome_fd)))
        os.close(outcome_fd)

    job.on_exited = note  # type: ignore[method-assign]
    host.start("a run", worker(PLACES[0]), job, call)
    for piece in parcel.pieces(call):
        service.handle("call", "a run", piece)
    os.close(call)
    # When there is no memory while the first is sent
    for place in PLACES:
        outcome = parcel.create()
        parcel.write(outcome, codec.encode(Returned("the same"), "a rank"))
        service._runs["a run"].on_exited(place, ProcessExit(code=0), outcome)
    # Then
    first, second = ended.get(timeout=WAIT_S), ended.get(timeout=WAIT_S)
    assert first[0] == PLACES[0]
    assert first[2] is None
    assert "could not send: MemoryError('no room')" in first[1].cause
    assert second == (PLACES[1], ProcessExit(code=0), Returned("the same"))
    host.release("a run")
    service.close()


def test_an_agent_whose_word_cannot_be_used_is_lost() -> None:
    # Given
    lost: queue.SimpleQueue[errors.AgentFailedError] = queue.SimpleQueue()

    def refuse(*_: object) -> None:
        raise LookupError("what is that?")

    agent = SshAgent(
        "localhost", dataclasses.replace(SSH, local=True), entry=ENTRY, on_message=refuse, on_lost=lost.put
    )
    # When
    agent.await_ready()
    agent.send("hello")
    # Then whoever waits for it is told
    assert "hello: LookupError: what is that?" in str(lost.get(timeout=WAIT_S))
    assert agent.lost
    agent.close()


def test_a_host_that_takes_long_to_connect_holds_up_no_run_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a pool that is connecting to a host, which takes its time
    pool, connecting, connected = HostPool(), threading.Event(), threading.Event()

    def connect(name: str, *_: object) -> RemoteHost:
        del name
        connecting.set()
        assert connected.wait(WAIT_S)
        return remote()[0]

    monkeypatch.setattr("kourou.spmd.launch.host_pool.host_over_ssh", connect)
    monkeypatch.setattr(RemoteHost, "await_ready", lambda *_: None)
    thread = threading.Thread(target=functools.partial(pool.connect, ["there"], SSH))
    thread.start()
    assert connecting.wait(WAIT_S)
    # When, then: what a run does at its end does not wait
    assert pool._lock.acquire(timeout=WAIT_S)
    assert not connected.is_set()
    pool._lock.release()
    connected.set()
    thread.join(WAIT_S)
    pool.close()
