"""One more node like those of a group."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import kourou as lp
from kourou.errors import GraphError
from kourou.runtime.graph.replicas import another


class Actor:
    pass


@dataclasses.dataclass
class Config:
    seed: int
    lr: float


def members(make, count=3):
    """Nodes of a group, as a loop makes them."""
    program = lp.Program("group")
    for number in range(count):
        program.add_node(make(number), label="actor")
    return dict(enumerate(program.get_all_nodes()))


def test_arguments_are_the_same_and_numbers_go_on():
    weights = np.arange(10)
    nodes = members(
        lambda i: lp.CourierNode(
            Actor,
            Config(seed=i, lr=0.5),
            {"port": [100 + 10 * i, "x"]},
            weights,
            np.arange(10),
            deferred=lp.Deferred(Config, 1, 2),
        )
    )

    made = another(nodes, 7)

    assert made.name is None
    config, ports, same, alike = made.arguments()["args"]
    assert (config, ports) == (Config(seed=7, lr=0.5), {"port": [170, "x"]})
    assert same is weights
    assert alike.tolist() == list(range(10))
    assert made.arguments()["kwargs"] == nodes[0].arguments()["kwargs"]


def test_a_group_of_one_says_no_more_than_its_node():
    assert another(members(lambda i: lp.PyNode(print, i), 1), 4).arguments()["args"] == (0,)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda i: lp.PyNode(print, ("a", "b", "c")[i]), r"differ in args\[0\] \('a', 'b', 'c'\)"),
        (lambda i: lp.PyNode(print, seed=i * i), r"differ in kwargs\['seed'\] \(0, 1, 4\)"),
        (lambda i: lp.PyNode(print, i == 2), r"differ in args\[0\]"),
        (lambda i: (lp.PyNode, lp.PyClassNode)[i % 2](Actor), "of several kinds"),
        (lambda _: lp.MultiThreadingColocation([lp.PyNode(print), lp.PyNode(print)]), "consists of 2 nodes"),
    ],
)
def test_what_cannot_be_gone_on_with_is_named(make, words):
    with pytest.raises(GraphError, match=words):
        another(members(make), 3)
