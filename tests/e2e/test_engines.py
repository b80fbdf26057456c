"""Engines: the contract, and what an engine's user is told."""

from __future__ import annotations

import contextlib
import errno
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import kourou as lp
from kourou.runtime.files.run_folder import ORDER_FILE, RunFolder
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.launch.batch.stored_plan import StoredPlan
from kourou.runtime.launch.batch.submission import detached, plan_submission
from kourou.runtime.launch.run_builder import RunBuilder
from kourou.runtime.launchers.engines.allocation import Allocation
from kourou.runtime.model.engines import EngineOptions
from kourou.runtime.plan.compile import compile_program
from kourou.testing.contracts.engines import ENGINE_CHECKS
from kourou.testing.engines import LocalEngine, LocalHosts
from optional import pytest
from polling import WAIT_S, until

pytestmark = [pytest.mark.usefixtures("no_leaks")]


@pytest.mark.parametrize("check", ENGINE_CHECKS)
def test_the_local_engine_keeps_the_contract(check: Callable[[EngineOptions], None]) -> None:
    check(LocalHosts(nodes=2, lost_after_s=4))


def stop() -> None:
    lp.stop()


def program_of(count: int) -> lp.Program:
    program = lp.Program("engines")
    with program.group("worker"):
        for _ in range(count):
            program.add_node(lp.PyNode(stop))
    return program


def test_a_refusal_and_reasons_to_wait_are_told_in_the_engines_words(caplog: pytest.LogCaptureFixture) -> None:
    engine = LocalHosts(pending=("Resources", "Resources", "Priority"), refusal="the cluster is closed")
    with pytest.raises(lp.errors.LaunchError, match="the cluster is closed"):
        lp.launch(program_of(1), engine)
    assert caplog.text.count("waiting for Resources") == 1
    assert caplog.text.count("waiting for Priority") == 1


def test_a_lost_host_whose_agent_cannot_be_started_again_is_called_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a system that has no process to spare when a host was lost
    started: list[LocalEngine] = []
    start_agents = LocalEngine.start_agents

    def start_or_refuse(engine: LocalEngine, *arguments: Any) -> None:
        started.append(engine)
        if len(started) == 2:
            raise OSError(errno.EAGAIN, "no process to spare")
        start_agents(engine, *arguments)

    monkeypatch.setattr(LocalEngine, "start_agents", start_or_refuse)
    program = lp.Program("engines")
    with program.group("worker", on_failure=lp.Restart(max_times=3)):
        program.add_node(lp.PyNode(lp.wait_for_stop))
    with lp.launch(program, LocalHosts(lost_after_s=2)) as run:
        until(lambda: run.nodes["worker/0"].state is lp.NodeState.READY, WAIT_S)
        started[0].agents[0].kill()
        # When, then
        until(lambda: run.nodes["worker/0"].attempt == 3 or run.ended, WAIT_S)
        until(lambda: run.nodes["worker/0"].state is lp.NodeState.READY or run.ended, WAIT_S)
        assert (
            "could not start: host 0: [Errno 11] no process to spare"
            in (run.folder / "logs" / "worker" / "0.log").read_text()
        )


def waiting_agents(folder: Path, allocation: Allocation) -> list[psutil.Process]:
    """The agents of a plan that was stored, before there is a launcher; those that get nodes have their zygotes."""
    assert isinstance(allocation.engine, LocalEngine)
    agents = [psutil.Process(agent.pid) for agent in allocation.engine.agents.values()]
    until(lambda: all(agent.children() for agent in agents[:2]), WAIT_S, "agents that prepare their nodes")
    order = DialOrder.read(folder / ORDER_FILE)
    assert (order.addresses, order.idle) == ((), (2,))
    return agents


def stored(tmp_path: Path) -> StoredPlan:
    folder = RunFolder("stored", tmp_path)
    folder.close()
    StoredPlan.write(detached(compile_program(program_of(2), LocalHosts(nodes=3))), folder.path)
    return StoredPlan(folder.path)


def test_agents_of_a_plan_that_was_submitted_wait_for_their_launcher(tmp_path: Path) -> None:
    # Given agents that were started before their launcher listens
    plan = stored(tmp_path)
    allocation = plan.start_agents()
    assert allocation is not None
    agents = waiting_agents(plan.folder, allocation)
    # When it does
    again = RunFolder(plan.folder.name, tmp_path, again=True, agents_wait=True)
    with contextlib.ExitStack() as undo:
        run = RunBuilder(plan.load(), again, None, allocation=allocation).build(None, undo)
    # Then it is they that call, and end with it
    run.wait()
    assert {node.host for node in run.nodes.values()} == {"local-0", "local-1"}
    assert isinstance(allocation.engine, LocalEngine)
    assert [agent.pid for agent in allocation.engine.agents.values()] == [agent.pid for agent in agents]
    until(lambda: not any(agent.is_running() for agent in agents), WAIT_S, "their end")
    # in order, that of the host without nodes as well
    assert [agent.returncode for agent in allocation.engine.agents.values()] == [0, 0, 0]


def test_agents_whose_launcher_never_listens_end_when_its_run_is_over(tmp_path: Path) -> None:
    plan = stored(tmp_path)
    allocation = plan.start_agents()
    assert allocation is not None
    waiting_agents(plan.folder, allocation)
    (plan.folder / ORDER_FILE).unlink()
    allocation.release()
    assert isinstance(allocation.engine, LocalEngine)
    assert [agent.returncode for agent in allocation.engine.agents.values()] == [0, 0, 0]
    assert allocation.engine.words().count("the launcher is gone") == 3


def test_the_shape_comes_from_resources_and_placement() -> None:
    # Given groups that ask for CPUs and GPUs, and one that asks for nothing
    program = program_of(3)
    program.add_node(lp.PyNode(stop), label="learner")
    resources = {"learner": lp.Resources(cpus=4, gpus=2), "worker": lp.Resources(cpus=1)}
    placement = {"learner": "big", "worker": ["small", "smaller"]}
    # When
    plan = compile_program(program, LocalHosts(), local_resources=resources, placement=placement)
    # Then
    assert plan.shape is not None
    assert (plan.shape.hosts, plan.shape.cpus, plan.shape.gpus) == (3, 4, 2)
    assert plan.to_dict()["engine"]["name"] == "test_engine"
    # and who asks for nothing counts as one CPU
    alone = compile_program(program_of(6), LocalHosts(nodes=2))
    assert alone.shape is not None
    assert (alone.shape.hosts, alone.shape.cpus, alone.shape.gpus) == (2, 3, 0)
    # and what there is can be said
    with pytest.raises(lp.errors.PlanError, match="no host has room"):
        compile_program(program, LocalHosts(nodes=3, cpus_per_node=2), local_resources=resources)
    with pytest.raises(lp.errors.PlanError, match="placement names 3 hosts"):
        compile_program(program, LocalHosts(nodes=2), placement=placement)


def test_words_of_a_command_line_become_options() -> None:
    slurm = lp.Slurm.from_words(["partition=gpu", "time=4:00:00", "nodes=3", "extra=--exclude=n7", "extra=-v"])
    assert slurm == lp.Slurm(partition="gpu", time="4:00:00", nodes=3, extra=("--exclude=n7", "-v"))
    several = lp.Slurm.from_words(["partition=cpu", "learner.partition=gpu", "learner.gpus-per-node=2"])
    assert several == lp.Slurm(partition="cpu", groups={"learner": {"partition": "gpu", "gpus_per_node": 2}})
    with pytest.raises(lp.errors.GraphError, match="groups\\['learner'\\]: time is none of nodes, cpus_per_node"):
        lp.Slurm.from_words(["learner.time=1"])
    with pytest.raises(lp.errors.PlanError, match="ray: its hosts are all alike, so nothing is said of learner alone"):
        lp.Ray.from_words(["learner.memory=1"])
    with pytest.raises(lp.errors.PlanError, match="none of nodes=…, cpus_per_node=…"):
        lp.Slurm.from_words(["gpus=1"])
    with pytest.raises(lp.errors.PlanError, match="nodes is a number"):
        lp.Slurm.from_words(["nodes=many"])


def test_what_would_be_submitted_is_told_to_the_letter() -> None:
    slurm = lp.Slurm(partition="gpu", time="4:00:00", nodes=2, lines=("module load cuda",), extra=("--exclude=n7",))
    resources = {"worker": lp.Resources(cpus=2, gpus=1)}
    plan = compile_program(program_of(4), slurm, local_resources=resources)
    submission = plan_submission(plan, Path("/runs/engines-1"))
    lines = submission.script.splitlines()
    keep = "trap 'export KOUROU_SIGNALLED=1' USR1"
    assert lines[:4] == ["#!/bin/bash", keep, "module load cuda", "trap '' USR1"]
    assert lines[4].startswith("exec ")
    assert shlex.split(lines[4])[-1].endswith("import main; main('/runs/engines-1')")
    assert submission.command == (
        *("sbatch", "--parsable", "--job-name=engines", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=4"),
        *("--gres=gpu:2", "--partition=gpu", "--time=4:00:00", "--no-kill", "--exclude=n7", "--requeue"),
        *("--open-mode=append", "--signal=B:USR1@120", f"--chdir={Path.cwd()}"),
        "--output=/runs/engines-1/launcher.log",
        "/runs/engines-1/job.sh",
    )
    with pytest.raises(lp.errors.PlanError, match="'test_engine' takes no batch jobs; those that do are kubernetes,"):
        lp.submit(program_of(1), LocalHosts())


def test_groups_with_hosts_of_another_kind_make_a_heterogeneous_job() -> None:
    # Given groups of which something is said, two of them the same
    program = program_of(4)
    for label in ("learner", "replay", "judge"):
        program.add_node(lp.PyNode(stop), label=label)
    big = {"partition": "gpu", "constraint": "a100"}
    slurm = lp.Slurm(partition="cpu", nodes=2, time="60", groups={"learner": big, "judge": big})
    resources = {"learner": lp.Resources(gpus=2), "worker": lp.Resources(cpus=3)}
    # When
    plan = compile_program(program, slurm, local_resources=resources)
    # Then each kind is a component, with what its own groups need
    command = plan_submission(plan, Path("/r")).command
    at = command.index(":")
    assert {"--partition=cpu", "--nodes=2", "--cpus-per-task=7", "--time=60", "--requeue"} <= set(command[:at])
    assert {
        "--partition=gpu",
        "--nodes=1",
        "--cpus-per-task=2",
        "--gres=gpu:2",
        "--time=60",
        "--constraint=a100",
    } <= set(command[at:])
    # and its groups are on its hosts
    where = {node.name: node.site.host for node in plan.nodes if node.site}
    assert where["learner/0"] == where["judge/0"] == "learner0"
    assert {where["worker/0"], where["worker/1"], where["replay/0"]} <= {"host0", "host1"}
    assert [needs["group"] for needs in plan.to_dict()["shape"]["each"]] == ["", "", "learner"]
    # and a host is of one kind
    with pytest.raises(lp.errors.PlanError, match="placement puts groups on a whose hosts are of different kinds"):
        compile_program(program, slurm, placement={"learner": "a", "worker": "a"})
    # and where the same is said of all there is one
    alone = compile_program(program_of(2), lp.Slurm(groups={"worker": big}))
    assert "--partition=gpu" in plan_submission(alone, Path("/r")).command
    assert ":" not in plan_submission(alone, Path("/r")).command
