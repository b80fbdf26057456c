"""Programs that hang, and what the doctor says of them; threads of this process, so that each is cheap."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar

import kourou as lp
from cli.commands import kourou
from kourou.replay import Table
from kourou.runtime.diagnosis.doctor import examine
from kourou.runtime.diagnosis.finding import Finding
from kourou.runtime.monitoring.run_search import find_runs
from kourou.testing.engines import LocalEngine, LocalHosts
from optional import pytest
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks", "runs_dir")

gate = threading.Event()


@pytest.fixture(autouse=True)
def _closed() -> None:
    gate.clear()


def held() -> None:
    """What the test lets go of: stands for what never would."""
    gate.wait(WAIT_S)


@contextmanager
def running(*nodes: tuple[str, Callable[..., lp.CourierNode[Any] | lp.ReplayNode]]) -> Iterator[lp.Run]:
    """A program of nodes, each made with the handles of all that were made before."""
    program, handles = lp.Program("stuck"), dict[str, Any]()
    for label, make in nodes:
        with program.group(label):
            handles[label] = program.add_node(make(handles))
    run = lp.launch(program, launch_type="local_mt", terminal="output_to_files")
    try:
        yield run
    finally:
        gate.set()
        run.stop()


def found(run: lp.Run, kind: str, waiters: int = 0) -> Finding:
    """The finding of that kind, once there is one and so many wait for what it is about."""
    seen: list[Finding] = []

    def look() -> bool:
        seen[:] = [one for one in run.doctor().findings if one.kind == kind and len(one.waiters) >= waiters]
        return bool(seen)

    until(look, WAIT_S, f"a finding of the kind {kind}")
    return seen[0]


class Pair:
    """Calls the other one while it holds its lock, as the other one does."""

    def __init__(self, other: Any) -> None:
        self.other = other
        self.busy = False
        self.lock = threading.Lock()

    def ask(self) -> None:
        with self.lock:
            self.busy = True
            until(self.other.is_busy, WAIT_S)
            self.other.tell()

    def is_busy(self) -> bool:
        return self.busy

    def tell(self) -> None:
        while not self.lock.acquire(timeout=0.1):
            if gate.is_set():
                return

    def run(self) -> None:
        self.other.ask()


def test_a_deadlocked_pair_is_named() -> None:
    program = lp.Program("pair")
    with program.group("left"):
        left = lp.CourierNode(Pair, None)
        handle = program.add_node(left)
    with program.group("right"):
        left.configure(program.add_node(lp.CourierNode(Pair, handle)))
    run = lp.launch(program, launch_type="local_mt", terminal="output_to_files")
    try:
        finding = found(run, "cycle")
        assert set(finding.nodes) == {"left/0", "right/0"}
        assert any(
            "in ask: self.other.tell()" in line or "in run: self.other.ask()" in line for line in finding.details
        )
        outcome = kourou("doctor", run.run_id, "--json")
        assert outcome.code == 4
        assert [one["kind"] for one in outcome.json["findings"]] == ["cycle"]
        assert not outcome.json["healthy"]
    finally:
        gate.set()
        run.stop()


class Learner:
    def __init__(self, *_: Any) -> None:
        pass

    def step(self) -> None:
        held()

    def fine(self) -> int:
        return 1


class Actor:
    def __init__(self, learner: Any) -> None:
        self.learner = learner

    def run(self) -> None:
        self.learner.step()


def test_a_handler_that_never_returns_is_named() -> None:
    with running(
        ("learner", lambda _: lp.CourierNode(Learner)), ("actor", lambda made: lp.CourierNode(Actor, made["learner"]))
    ) as run:
        finding = found(run, "handler", waiters=1)
        assert finding.nodes == ("learner/0",)
        assert finding.waiters == ("actor/0",)
        assert "step has not returned" in finding.text
        assert any("in held: gate.wait(WAIT_S)" in line for line in finding.details)


class Unready(Learner):
    def __init__(self) -> None:
        held()


def test_a_node_that_does_not_become_ready_is_named() -> None:
    with running(
        ("learner", lambda _: lp.CourierNode(Unready)), ("actor", lambda made: lp.CourierNode(Actor, made["learner"]))
    ) as run:
        finding = found(run, "not_ready", waiters=1)
        assert finding.nodes == ("learner/0",)
        assert finding.waiters == ("actor/0",)
        assert any("in held" in line for line in finding.details)


class NoHosts(LocalEngine):
    """An engine whose queue does not move."""

    def granted(self, timeout_s: float) -> bool:
        if gate.wait(timeout_s):
            raise lp.errors.LaunchError("there are no hosts")
        return False

    def why_pending(self) -> str:
        return "job 7, which is pending: Resources"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Full(LocalHosts):
    implementation: ClassVar[str] = f"{__name__}:NoHosts"


def test_nodes_that_nobody_can_place_are_named_with_the_engines_words() -> None:
    program = lp.Program("stuck")
    program.add_node(lp.CourierNode(Learner), label="learner")
    with program.group("actor"):
        program.add_node(lp.PyNode(held))
    told: list[Any] = []

    def ask() -> None:
        try:
            run = until(find_runs, WAIT_S, "the run's folder")[0]
            told.append(until(lambda: (one := examine(run)).findings and one, WAIT_S, "a finding"))
            told.append(kourou("status", run.run_id))
            told.append(kourou("doctor", run.run_id))
        finally:
            gate.set()

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        with pytest.raises(lp.errors.LaunchError, match="there are no hosts"):
            lp.launch(program, Full(), terminal="output_to_files")
        asking.result()
    diagnosis, status, doctor = told
    assert [(one.kind, one.nodes) for one in diagnosis.findings] == [("unplaced", ("learner/0", "actor/0"))]
    assert "waiting for job 7, which is pending: Resources" in status.out
    assert doctor.code == 3
    assert "learner/0, actor/0 cannot be placed" in doctor.out
    assert "test_engine waits for job 7, which is pending: Resources" in doctor.out


class Sampling:
    def __init__(self, replay: Any) -> None:
        self.replay = replay

    def run(self) -> None:
        for _ in self.replay.sampler("queue", 1, max_in_flight=0):
            pass


class Writing:
    def __init__(self, replay: Any) -> None:
        self.replay = replay

    def run(self) -> None:
        lp.wait_for_stop()


def queue() -> list[Table]:
    return [Table.queue("queue", 10)]


def test_a_starved_table_is_named_with_who_could_write_to_it() -> None:
    with running(
        ("replay", lambda _: lp.ReplayNode(queue)),
        ("learner", lambda made: lp.CourierNode(Sampling, made["replay"])),
        ("actor", lambda made: lp.CourierNode(Writing, made["replay"])),
    ) as run:
        finding = found(run, "starved_table")
        assert (finding.nodes, finding.waiters) == (("replay/0",), ("learner/0",))
        assert "table 'queue' of replay/0 is starved" in finding.text
        assert any(line.startswith("actor/0 is ready, at ") for line in finding.details)


class Working:
    def __init__(self, learner: Any) -> None:
        self.learner = learner

    def run(self) -> None:
        while not lp.wait_for_stop(0.01):
            self.learner.fine()


def test_a_healthy_program_is_healthy_and_so_is_its_end() -> None:
    with running(
        ("learner", lambda _: lp.CourierNode(Learner)), ("actor", lambda made: lp.CourierNode(Working, made["learner"]))
    ) as run:
        until(lambda: all(node.state.value == "READY" for node in run.nodes.values()), WAIT_S)
        outcome = kourou("doctor", run.run_id)
        assert outcome.code == 0
        assert "healthy; 2 of 2 nodes are ready" in outcome.out
    ended = run.doctor()
    assert (ended.healthy, ended.state) == (True, "finished")
