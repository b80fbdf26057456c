"""What is asked of Ray, and what is said of a cluster that has no room for it."""

from __future__ import annotations

import pytest

import kourou as lp
from kourou.runtime.launchers.engines.ray_driver import NodeState, Wanted, reason_to_wait
from kourou.runtime.model.engines import Shape


def test_a_host_is_a_bundle() -> None:
    shape = Shape(hosts=2, cpus=4, gpus=1)
    assert lp.Ray().bundle(shape) == {"CPU": 4, "GPU": 1}
    assert lp.Ray().bundle(Shape(hosts=1, cpus=2, gpus=0)) == {"CPU": 2}
    asked = lp.Ray(memory=1 << 30, resources={"TPU": 8}, accelerator_type="A100").bundle(shape)
    assert asked == {"CPU": 4, "GPU": 1, "memory": 1 << 30, "accelerator_type:A100": 0.001, "TPU": 8}


def test_words_of_a_command_line_become_options() -> None:
    words = ["strategy=STRICT_SPREAD", "memory=1024", "resources=TPU=8", "resources=disk=0.5", "address=head:6379"]
    assert lp.Ray.from_words(words) == lp.Ray(
        strategy="STRICT_SPREAD", memory=1024, resources={"TPU": 8, "disk": 0.5}, address="head:6379"
    )
    with pytest.raises(lp.errors.GraphError, match="strategy is one of PACK, SPREAD, STRICT_PACK"):
        lp.Ray.from_words(["strategy=WIDE"])
    with pytest.raises(lp.errors.PlanError, match="resources is a number, got ''"):
        lp.Ray.from_words(["resources=TPU"])


TOO_FEW = "nodes that this Ray cluster does not have:"


def node(name: str, cpus: float, free: float) -> NodeState:
    return NodeState(name=name, total={"CPU": cpus}, free={"CPU": free})


@pytest.mark.parametrize(
    ("strategy", "cpus", "hosts", "reason"),
    [
        ("SPREAD", 4, 3, "host 2 of 3, which needs CPU 4; free are a: CPU 4 of 8; b: CPU 1 of 4"),
        ("PACK", 5, 1, "the host, which needs CPU 5; free are a: CPU 4 of 8; b: CPU 1 of 4"),
        ("STRICT_PACK", 4, 2, "the host, which needs CPU 8 for all 2; free are a: CPU 4 of 8; b: CPU 1 of 4"),
        ("STRICT_SPREAD", 2, 2, "host 2 of 2, which needs CPU 2; free are a: CPU 4 of 8; b: CPU 1 of 4"),
        (
            *("STRICT_SPREAD", 1, 3),
            f"{TOO_FEW} 3 hosts need each CPU 1; its nodes are a: CPU 4 of 8; b: CPU 1 of 4",
        ),
        (
            *("SPREAD", 9, 1),
            f"{TOO_FEW} the host needs CPU 9; its nodes are a: CPU 4 of 8; b: CPU 1 of 4",
        ),
    ],
)
def test_a_reason_to_wait_names_the_bundle_and_what_is_there(strategy: str, cpus: int, hosts: int, reason: str) -> None:
    wanted = Wanted(
        address="auto", group="g", bundle={"CPU": cpus}, hosts=hosts, strategy=strategy, folder="/f", env={}
    )
    assert reason_to_wait(wanted, [node("a", 8, 4), node("b", 4, 1)]) == reason
