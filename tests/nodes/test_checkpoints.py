"""Objects with ``save`` and ``load``: when they are called, and runs that are gone on with."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import kourou as lp
from kourou import replay as kr
from kourou.checkpoint_files import CheckpointFolder, numbered
from kourou.errors import GraphError, PlanError, ProgramFailed
from kourou.runtime.files.run_folder import node_checkpoints
from kourou.runtime.metrics.reading import read_metrics
from optional import pytest
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")

LAUNCH = pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
QUICK = lp.StopTimeline(ask_s=2.0, interrupt_s=1.0, terminate_s=1.0)


class Counter:
    """Counts, and keeps its count."""

    def __init__(self, fails_on: str = "") -> None:
        self._fails_on = fails_on
        self._total = 0
        self._inside = 0

    def add(self, amount: int) -> int:
        self._inside += 1
        before = self._total
        time.sleep(0.001)
        self._total = before + amount
        self._inside -= 1
        return self._total

    def save(self, folder: Path) -> None:
        if self._fails_on == f"save {self._total}":
            raise OSError(f"no room for {self._total}")
        (folder / "total").write_text(f"{self._total} {self._inside}")

    def load(self, folder: Path) -> None:
        if self._fails_on == "load":
            raise ValueError("its total is no number")
        self._total = int((folder / "total").read_text().split()[0])


class Logging(Counter):
    """Logs each step."""

    def add(self, amount: int) -> int:
        step = super().add(amount)
        lp.log(step, incarnation=lp.get_context().incarnation)
        return step


class Stubborn(Counter):
    """Works for ever, and does not look whether its program stops."""

    def run(self) -> None:
        while True:
            self.add(1)


class Polite(Counter):
    """Works until the program stops, and tells where it was then."""

    def run(self) -> None:
        while not lp.wait_for_stop(0.001):
            self.add(1)
        print("ended at", self._total)


def stopped_by(*_: object) -> None:
    lp.stop()


def _program(node: lp.Node, *, checkpoints: lp.Checkpoints | None = None, **group: Any) -> tuple[lp.Program, Any]:
    program = lp.Program("kept")
    with program.group("counter", checkpoints=checkpoints, **group):
        return program, program.add_node(node)


def _until_ready(run: lp.Run) -> None:
    until(lambda: run.nodes["counter/0"].state is lp.NodeState.READY, WAIT_S)


def _kept(run: lp.Run, node: str = "counter/0") -> Path:
    return node_checkpoints(run.folder / "checkpoints", node)


def _total(run: lp.Run) -> int:
    last = numbered(_kept(run))[0]
    return int((CheckpointFolder.files(last) / "total").read_text().split()[0])


def _log(run: lp.Run, node: str = "counter/0") -> str:
    log = run.folder / "logs" / f"{node}.log"
    return log.read_text("utf-8") if log.exists() else ""


@LAUNCH
def test_a_run_is_gone_on_with(launch_type: str) -> None:
    # given a run with a service, replay tables and weights, which was stopped
    def program() -> tuple[lp.Program, list[Any]]:
        program, handle = _program(lp.CourierNode(Counter))
        with program.group("kept", checkpoints=lp.Checkpoints(keep=1)):
            replay = program.add_node(lp.ReplayNode(lambda: [kr.Table.queue("q", 10)]))
            weights = program.add_node(lp.WeightsNode())
        return program, [handle, replay, weights]

    first, (counter, replay, weights) = program()
    with lp.launch(first, launch_type, terminal="output_to_files") as run:
        for _ in range(3):
            counter.dereference().add(2)
        with replay.dereference() as client:
            client.insert({"x": np.array(7)}, {"q": 1.0})
        with weights.dereference() as client:
            client.publisher().publish("five", version=5)
    # when its program is launched again, to go on with it
    second, (counter, replay, weights) = program()
    with lp.launch(second, launch_type, terminal="output_to_files", resume=run) as again:
        # then it has its name, and all of what it had
        assert (again.run_id, again.incarnation) == (run.run_id, 2)
        assert counter.dereference().add(1) == 7
        with replay.dereference() as client:
            assert client.sample_batch("q", 1, timeout_s=WAIT_S).data["x"].tolist() == [7]
        with weights.dereference() as client:
            assert client.subscriber().require(timeout_s=WAIT_S).version == 5
        begun = _log(again)
    assert "counter/0 begins with " in begun
    assert "checkpoint-00000001" in begun
    assert _total(again) == 7
    assert [path.name for path in numbered(_kept(run))] == ["checkpoint-00000002", "checkpoint-00000001"]


def test_metrics_go_on_and_what_is_done_once_more_counts_once() -> None:
    # given a run that was stopped later than it was saved
    checkpoints = lp.Checkpoints(on_stop=False)
    program, counter = _program(lp.CourierNode(Logging), checkpoints=checkpoints)
    with lp.launch(program, "local_mt") as run:
        for _ in range(3):
            counter.dereference().add(1)
    # when it is gone on with
    program, counter = _program(lp.CourierNode(Logging), checkpoints=checkpoints)
    with lp.launch(program, "local_mt", resume=run):
        for _ in range(2):
            counter.dereference().add(1)
    # then what it had logged beyond that is left out
    assert [(row["step"], row["incarnation"]) for row in read_metrics(run.folder)] == [(1, 2), (2, 2)]


@LAUNCH
@pytest.mark.parametrize("kind", [Stubborn, Polite])
def test_a_node_with_work_of_its_own_is_saved_on_the_stop(launch_type: str, kind: type) -> None:
    program, _ = _program(lp.PyClassNode(kind))
    run = lp.launch(program, launch_type, terminal="output_to_files", stop_timeline=QUICK)
    _until_ready(run)
    run.stop()
    if kind is Polite:
        assert f"ended at {_total(run)}\n" in _log(run)
    else:
        assert _total(run) > 0


@pytest.mark.parametrize("on_restart", ["load", "fresh"])
def test_a_node_that_is_started_again_has_its_last_checkpoint(on_restart: Any) -> None:
    checkpoints = lp.Checkpoints(every_s=0.05, on_stop=False, on_restart=on_restart)
    restart = lp.Restart(backoff_s=0.01)
    program, handle = _program(lp.CourierNode(Counter), checkpoints=checkpoints, on_failure=restart)
    with lp.launch(program, "local_mp", terminal="output_to_files") as run:
        handle.dereference().add(5)
        until(lambda: numbered(_kept(run)) and _total(run) == 5, WAIT_S)
        os.kill(run.nodes["counter/0"].pid or 0, signal.SIGKILL)
        until(lambda: run.nodes["counter/0"].attempt == 2, WAIT_S)
        assert handle.dereference().add(1) == (6 if on_restart == "load" else 1)
        assert len(numbered(_kept(run))) <= 3


@LAUNCH
def test_a_save_that_fails_is_told_and_the_one_before_stays(launch_type: str) -> None:
    program, handle = _program(lp.CourierNode(Counter, "save 2"), checkpoints=lp.Checkpoints(every_s=0.05))
    with lp.launch(program, launch_type, terminal="output_to_files") as run:
        handle.dereference().add(1)
        until(lambda: numbered(_kept(run)) and _total(run) == 1, WAIT_S)
        handle.dereference().add(1)
        until(lambda: "wrote no checkpoint" in _log(run), WAIT_S)
    assert "counter/0 wrote no checkpoint: OSError: no room for 2" in _log(run)
    assert f"(in {_kept(run)}; checkpoint-" in _log(run)
    assert _total(run) == 1


@LAUNCH
def test_a_load_that_fails_fails_the_node(launch_type: str) -> None:
    program, _ = _program(lp.CourierNode(Counter))
    with lp.launch(program, launch_type, terminal="output_to_files") as run:
        _until_ready(run)
    again, _ = _program(lp.CourierNode(Counter, "load"))
    with pytest.raises(ProgramFailed, match=r"counter/0 could not load the checkpoint .*: ValueError: its total is no"):
        lp.launch(again, launch_type, terminal="output_to_files", resume=run.run_id).wait(timeout_s=WAIT_S)
    assert _total(run) == 0


def test_a_program_that_has_changed_is_refused_before_anything_starts() -> None:
    program, _ = _program(lp.CourierNode(Counter))
    with lp.launch(program, "local_mt") as run:
        _until_ready(run)
        with pytest.raises(PlanError, match="stop it before"):
            lp.launch(_program(lp.CourierNode(Counter))[0], "local_mt", resume=run)
    other = lp.Program("kept")
    other.add_node(lp.PyNode(stopped_by), label="other")
    more, _ = _program(lp.CourierNode(Counter))
    more.add_node(lp.CourierNode(Counter), label="counter")
    changes = {
        "has no label 'counter' any more": other,
        "had 1 of 'counter', and has 2": more,
        r"was a CourierNode\(Counter\), and is a CourierNode\(Polite\)": _program(lp.CourierNode(Polite))[0],
    }
    for change, changed in changes.items():
        with pytest.raises(PlanError, match=f"counter/0 has a checkpoint in {_kept(run)}, and .*{change}"):
            lp.launch(changed, "local_mt", resume=run)
    assert run.ended


def test_one_call_at_a_time_means_save_as_well() -> None:
    # given a node that answers one call at a time, and many callers
    node = lp.CourierNode(Counter, courier_kwargs={"thread_pool_size": 1})
    program, handle = _program(node, checkpoints=lp.Checkpoints(every_s=0.01, keep=1000))
    with lp.launch(program, "local_mt", terminal="output_to_files") as run:
        stop = threading.Event()

        def call() -> None:
            client = handle.dereference()
            while not stop.is_set():
                client.add(1)

        callers = [threading.Thread(target=call) for _ in range(3)]
        for caller in callers:
            caller.start()
        until(lambda: len(numbered(_kept(run))) > 5, WAIT_S)
        stop.set()
        for caller in callers:
            caller.join()
    # then no call was in the object while it was saved
    kept = [(CheckpointFolder.files(path) / "total").read_text() for path in numbered(_kept(run))]
    assert {text.split()[1] for text in kept} == {"0"}


class AlternativeConstructor:
    """Has both names, and means something else by them."""

    def save(self, path: Path, overwrite: bool, compress: bool) -> None:
        raise AssertionError

    @classmethod
    def load(cls, path: Path) -> AlternativeConstructor:
        raise AssertionError


def test_objects_with_other_methods_of_these_names_are_left_alone() -> None:
    program, _ = _program(lp.CourierNode(AlternativeConstructor))
    with lp.launch(program, "local_mt", terminal="output_to_files") as run:
        pass
    assert not _kept(run).exists()


def test_options_are_checked() -> None:
    wrong: list[dict[str, Any]] = [{"every_s": 0}, {"keep": 0}, {"on_restart": "again"}]
    for options in wrong:
        with pytest.raises(GraphError, match=f"Checkpoints.{next(iter(options))}"):
            lp.Checkpoints(**options)
    with pytest.raises(GraphError, match=r"lp\.Checkpoints"), lp.Program("p").group("a", checkpoints=60):  # type: ignore[arg-type]
        pass


WRITER = """
import sys
from pathlib import Path
from kourou.checkpoint_files import CheckpointFolder
folder = CheckpointFolder(Path(sys.argv[1]), keep=2)
last = folder.last()
count = int((folder.files(last) / "0").read_text()) if last else 0
while True:
    count += 1
    folder.write(lambda aside: [(aside / str(n)).write_text(str(count)) for n in range(5)], {})
    print(count, flush=True)
"""


@pytest.mark.parametrize("kills", [5, pytest.param(200, marks=[pytest.mark.soak, pytest.mark.timeout(300)])])
def test_a_writer_that_is_killed_leaves_a_whole_checkpoint(kills: int, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    for seed in range(kills):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            written = int(writer.stdout.readline())
            threading.Event().wait(random.Random(seed).random() * 0.3)
            writer.kill()
        last = folder.last()
        assert last is not None
        found = [path.read_text() for path in folder.files(last).iterdir()]
        assert len(found) == 5
        assert len(set(found)) == 1
        assert int(found[0]) >= written
