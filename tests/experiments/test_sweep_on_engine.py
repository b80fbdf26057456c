"""Sweeps on hosts that an engine allocates: many runs share one allocation."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil

from experiments.sweeping import function_run, shell_run
from kourou.errors import LaunchError, PlanError
from kourou.experiments import Retry, RunState, Share, SweepOptions, run_sweep
from kourou.experiments.sweep.slots import engine_slots
from kourou.runtime.launchers.hosts.host import RemoteHost
from kourou.testing.engines import LocalHosts
from optional import pytest
from polling import until

pytestmark = [pytest.mark.usefixtures("no_leaks")]

HOSTS = LocalHosts(nodes=2, lost_after_s=4)
WITHIN_S = 60.0


def meet(own: str, other: str, where: str) -> None:
    """Go on once the other run has begun, too."""
    Path(where, own).touch()
    until(Path(where, other).exists, WITHIN_S)
    print("here is", os.environ["KOUROU_HOST_NAME"], os.environ["KOUROU_RUN_NAME"])


def test_runs_share_the_hosts_of_one_allocation_and_each_has_its_end(tmp_path: Path) -> None:
    # Given two that have to run at the same time, one that fails, and one that another host has to run first
    there = str(tmp_path)
    pair = [function_run(tmp_path, own, meet, own=own, other=other, where=there) for own, other in ("ab", "ba")]
    fails = shell_run(tmp_path, "fails", "echo no; exit 3")
    gpus = shell_run(tmp_path, "gpus", "echo $CUDA_VISIBLE_DEVICES $KOUROU_RUN_ATTEMPT")
    # When
    outcome = run_sweep([*pair, fails, gpus], tmp_path / "sweep", on=HOSTS, share=Share(parallel=2))
    # Then each has ended as it would anywhere, on the hosts
    ends = {record.name: record for record in outcome.records}
    assert [ends[name].state for name in ("a", "b", "fails", "gpus")] == [
        "SUCCEEDED",
        "SUCCEEDED",
        "FAILED",
        "SUCCEEDED",
    ]
    assert (ends["fails"].code, ends["fails"].last_lines) == (3, ("no",))
    assert {ends["a"].host, ends["b"].host} == {"local-0", "local-1"}
    said = (tmp_path / "runs" / "a" / "stdout.log").read_text("utf-8")
    assert said == f"here is {ends['a'].host} a\n"
    # and what was done is not done again
    again = run_sweep([*pair, gpus], tmp_path / "sweep", on=HOSTS)
    assert [record.attempt for record in again.records] == [1, 1, 1]


def test_hosts_that_cannot_be_connected_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[RemoteHost] = []

    def one_only(*arguments: Any, **options: Any) -> Any:
        if made:
            raise MemoryError
        made.append(RemoteHost(*arguments, **options))
        return made[0]

    monkeypatch.setattr("kourou.runtime.launchers.hosts.pool.RemoteHost", one_only)
    with pytest.raises(MemoryError):
        run_sweep([shell_run(tmp_path, "it", "true")], tmp_path / "sweep", on=HOSTS)


def lose_host(mark: str) -> None:
    """The first time, the agent is killed, and this run with it."""
    if not Path(mark).exists():
        Path(mark).touch()
        next(p for p in psutil.Process().parents() if "host_agent.dialling" in " ".join(p.cmdline())).kill()
        signal.pause()


def test_a_host_that_is_lost_takes_its_run_and_comes_back(tmp_path: Path) -> None:
    run = function_run(tmp_path, "it", lose_host, mark=str(tmp_path / "mark"))
    outcome = run_sweep(
        [run],
        tmp_path / "sweep",
        on=LocalHosts(nodes=1, lost_after_s=2),
        options=SweepOptions(retry=Retry(times={"node": 1}, backoff_s=0.1)),
    )
    assert [(record.state, record.attempt) for record in outcome.records] == [(RunState.SUCCEEDED, 2)]


def test_what_an_engine_refuses_is_said_in_its_words_and_nothing_was_run(tmp_path: Path) -> None:
    run = shell_run(tmp_path, "it", "true")
    with pytest.raises(LaunchError, match="the cluster is closed"):
        run_sweep([run], tmp_path / "sweep", on=LocalHosts(refusal="the cluster is closed"))
    outcome = run_sweep([run], tmp_path / "sweep")
    assert [record.attempt for record in outcome.records] == [1]


def test_what_is_asked_for_comes_from_what_runs_get() -> None:
    shape, slots = engine_slots(Share(parallel=8, cpus_per_run=2, gpus_per_run=1), LocalHosts(nodes=4), 100)
    assert (shape.hosts, shape.cpus, shape.gpus) == (4, 4, 2)
    assert len(slots) == 8
    assert {slot.host for slot in slots[:4]} == {"host0", "host1", "host2", "host3"}  # one after another
    assert {(slot.cpus, slot.gpus) for slot in slots} == {((0, 1), ("0",)), ((2, 3), ("1",))}
    shape, slots = engine_slots(Share(runs_per_gpu=2), LocalHosts(nodes=2, gpus_per_node=2), 100)
    assert (shape.cpus, shape.gpus, len(slots)) == (1, 2, 8)
    shape, slots = engine_slots(Share(), LocalHosts(nodes=2), 100)
    assert (shape.cpus, shape.gpus, len(slots)) == (1, 0, 2)
    with pytest.raises(PlanError, match="gpus and gpu_memory_bytes are for runs on this host"):
        engine_slots(Share(gpus_per_run=1, gpu_memory_bytes=1), LocalHosts(), 1)
