"""Groups of torch's ranks as nodes of a program."""

from __future__ import annotations

import os
import time
from typing import Any, cast

import kourou as lp
from kourou.errors import GraphError, ProgramFailed
from optional import is_there, optional, pytest
from polling import until

torch = optional("torch")
dist = optional("torch.distributed")

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(not is_there("torch"), reason="torch is not installed"),
]

FAST_STOP = lp.StopTimeline(ask_s=2, interrupt_s=1, terminate_s=1)
WITHIN_S = 60.0  # two ranks import torch, and this machine may be busy


class Learner:
    def __init__(self, scale: float) -> None:
        self._scale = scale
        self.started_with = self._sum(1.0)  # the group is there already

    def step(self, value: float) -> float:
        return self._scale * self._sum(value + dist.get_rank())

    def where(self) -> tuple[int, str, int, int]:
        return int(os.environ["RANK"]), lp.get_context().name, os.getpid(), lp.get_context().attempt

    def world_size_at_the_start(self) -> float:
        return self.started_with

    def fail(self) -> None:
        os._exit(3)

    def fail_in_rank_1(self) -> None:
        if dist.get_rank() == 1:
            raise ValueError("of rank 1")
        lp.wait_for_stop()

    def _sum(self, value: float) -> float:
        total = torch.tensor([value])
        dist.all_reduce(total)
        return total.item()


def drive(learner: Any) -> None:
    assert learner.all.world_size_at_the_start() == [2.0, 2.0]
    assert learner.all.step(1.0) == [30.0, 30.0]
    assert [answer[:2] for answer in learner.all.where()] == [(0, "learner/0:0"), (1, "learner/0:1")]
    assert learner.where()[0] == 0
    assert learner.futures.where().result(WITHIN_S)[0] == 0
    assert learner.ranks[1].where()[0] == 1
    with pytest.raises(ValueError, match="of rank 1"):  # which rank 0 would never tell
        learner.all.fail_in_rank_1()


def train(expected: float) -> None:
    total = torch.tensor([float(dist.get_rank() + 1)])
    dist.all_reduce(total)
    assert total.item() == expected


def fail_in_a_collective() -> None:
    if dist.get_rank() == 1:
        raise ValueError("rank one has had enough")
    dist.barrier()


def test_objects_are_served_by_all_ranks_functions_end_and_errors_are_the_nodes() -> None:
    # Given nodes whose ranks answer calls, return, fail while others sit in a collective, and lack GPUs
    program = lp.Program("torch")
    learner = program.add_node(lp.TorchNode(Learner, 2, 10.0), label="learner")
    program.add_node(lp.PyNode(drive, learner), label="driver")
    program.add_node(lp.TorchNode(train, 2, 3.0, backend="gloo"), label="train")
    with program.group("failing", on_failure="ignore"):
        program.add_node(lp.TorchNode(fail_in_a_collective, 2, backend="gloo"))
    with program.group("nccl", on_failure="ignore"):
        program.add_node(lp.TorchNode(train, 2, 3.0, backend="nccl"))
    # When all but the server have ended
    with lp.launch(program, "local_mp", stop_timeline=FAST_STOP) as run:
        run.wait(["driver", "train", "failing", "nccl"], timeout_s=WITHIN_S)
    # Then each did so in its way
    for name in ("learner/0", "learner/0:0", "learner/0:1", "driver/0", "train/0"):
        assert str(run.nodes[name].state) == "FINISHED", run.nodes[name]
    assert "ValueError: rank one has had enough" in cause_of(run, "failing/0")
    if not torch.cuda.is_available():
        assert "say backend='gloo', or 'auto'" in cause_of(run, "nccl/0")


def cause_of(run: lp.Run, name: str) -> str:
    record = run.nodes[name].exit
    assert record is not None
    return record.cause


def test_the_ranks_start_again_as_one_and_a_stop_reaches_those_that_work_for_ever() -> None:
    program = lp.Program("torch")
    program.add_node(lp.TorchNode(work_for_ever, 2, backend=None), label="train")
    with program.group("learner", on_failure=lp.Restart(max_times=1, backoff_s=0.01)):
        learner = program.add_node(lp.TorchNode(Learner, 2, 1.0, backend="gloo"))
    with lp.launch(program, "local_mp", stop_timeline=FAST_STOP) as run:
        client = learner.dereference()
        before = client.all.where()
        # When one rank dies
        lp.courier.submit(client.ranks[1].fail)
        # Then both are new
        until(lambda: run.nodes["learner/0"].attempt == 2 and str(run.nodes["learner/0"].state) == "READY", WITHIN_S)
        after = learner.dereference().all.where()
        assert [answer[3] for answer in after] == [2, 2]
        assert not {answer[2] for answer in before} & {answer[2] for answer in after}
        assert learner.dereference().all.step(0.0) == [1.0, 1.0]
        until(lambda: str(run.nodes["train/0"].state) == "READY", WITHIN_S)
    assert str(run.nodes["train/0"].state) in {"FINISHED", "KILLED"}


def work_for_ever() -> None:
    assert os.environ["WORLD_SIZE"] == "2"
    while True:
        time.sleep(0.01)


def test_threads_cannot_be_ranks() -> None:
    program = lp.Program("torch")
    program.add_node(lp.TorchNode(train, 2, 3.0, backend="gloo"), label="train")
    with pytest.raises(ProgramFailed, match="launch with local_mp"):
        lp.launch(program, "local_mt", stop_timeline=FAST_STOP).wait(timeout_s=WITHIN_S)


def test_what_is_neither_a_function_nor_a_class_is_refused_with_the_nodes_name() -> None:
    with pytest.raises(TypeError, match="TorchNode takes a function or a class first, not what it returns; got 5"):
        lp.TorchNode(cast("Any", 5), 1)


@pytest.mark.parametrize("number", [0, -1, True, "2"])
def test_numbers_that_are_none_are_refused(number: Any) -> None:
    with pytest.raises(GraphError, match="num_workers"):
        lp.TorchNode(train, number)


def test_a_function_answers_no_calls() -> None:
    program = lp.Program("torch")
    train_node = program.add_node(lp.TorchNode(train, 2, 3.0), label="train")
    program.add_node(lp.PyNode(drive, train_node), label="driver")
    with pytest.raises(lp.errors.PlanError, match="serves no methods"):
        lp.compile_program(program)
    assert lp.TorchNode(train, 2).describe() == "TorchNode(2 × train)"
