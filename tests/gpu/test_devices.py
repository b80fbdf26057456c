"""What needs a device: GPUs given by UUID, ranks over NCCL, CUDA tensors in calls, and weights of models there."""

from __future__ import annotations

import os
from typing import Any

import kourou as lp
from kourou.courier import Client, Server, new_token
from kourou.runtime.model.gpus import read_gpus
from kourou.weights import Client as WeightsClient, Server as WeightsServer
from optional import optional, pytest
from polling import WAIT_S

torch = optional("torch")
dist = optional("torch.distributed")

pytestmark = [pytest.mark.gpu]

FAST_STOP = lp.StopTimeline(ask_s=5, interrupt_s=1, terminate_s=1)


class OnDevice:
    def visible(self) -> tuple[str, int]:
        return os.environ["CUDA_VISIBLE_DEVICES"], torch.cuda.device_count()


def test_a_node_has_the_gpu_that_it_was_given_by_its_uuid() -> None:
    gpus = read_gpus()
    assert gpus
    program = lp.Program("packed")
    with program.group("user", resources=lp.Resources(gpus=1)):
        user = program.add_node(lp.CourierNode(OnDevice))
    with lp.launch(program, "local_mp", stop_timeline=FAST_STOP):
        visible, count = user.dereference().visible()
    assert visible in {name for gpu in gpus for name in gpu.names}
    assert visible.startswith(("GPU-", "MIG-"))
    assert count == 1


class Rank:
    def total(self) -> float:
        value = torch.full((1,), 3.0, device="cuda")
        dist.all_reduce(value)
        return float(value)


def ask(ranks: Any) -> None:
    assert ranks.all.total() == [3.0]
    lp.stop()


def test_ranks_meet_by_nccl() -> None:
    program = lp.Program("nccl")
    ranks = program.add_node(lp.TorchNode(Rank, 1, backend="nccl"), label="ranks")
    program.add_node(lp.PyNode(ask, ranks), label="asker")
    lp.launch(program, "local_mp", stop_timeline=FAST_STOP).wait(timeout_s=WAIT_S)


@pytest.mark.parametrize("lane", ["inproc", "local", "grpc"])
def test_tensors_of_a_device_arrive(lane: str) -> None:
    with Server(token=(token := new_token())) as server:
        server.bind("double", lambda tensor: tensor * 2)
        with Client(server.address, token=token, lane=lane) as client:
            tensor = torch.arange(100_000.0, device="cuda")
            assert torch.equal(client.double(tensor).cpu(), tensor.cpu() * 2)


def test_weights_go_to_a_model_on_a_device_by_one_copy() -> None:
    def make() -> Any:
        return torch.nn.Sequential(torch.nn.Linear(500, 300), torch.nn.BatchNorm1d(300), torch.nn.Linear(300, 10))

    source, model = make(), make().cuda()
    with WeightsServer() as server, WeightsClient(server.address, lane="local") as client:
        client.publisher().publish(source.state_dict())
        view = client.subscriber().require(timeout_s=WAIT_S)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            view.load_into(model)
            torch.cuda.synchronize()
        del view
    for name, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[name].cpu(), tensor), name
    copies = [event for event in profile.events() if "HtoD" in event.name]
    assert ["Pinned" in event.name for event in copies] == [True]
