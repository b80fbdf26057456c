"""Weights between hosts: each host has one relay, which gets a version once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

import kourou as lp
from optional import pytest
from polling import WAIT_S

pytestmark = [pytest.mark.needs("hosts"), pytest.mark.usefixtures("no_leaks")]

FAST_STOP = lp.StopTimeline(ask_s=2, interrupt_s=1, terminate_s=1)
FLOATS = 500_000


class Learner:
    def __init__(self, weights: Any) -> None:
        self._publisher = weights.publisher()

    def publish(self, version: int) -> None:
        self._publisher.publish({"w": np.full(FLOATS, version)}, version=version)


class Actor:
    def __init__(self, weights: Any) -> None:
        self._subscriber = weights.subscriber()

    def read(self, version: int) -> tuple[float, str, int]:
        view = self._subscriber.latest(newer_than=version - 1, timeout_s=WAIT_S)
        relays = [thread for thread in threading.enumerate() if thread.name == "kourou-weights-relay"]
        return view.weights["w"].sum() / FLOATS, socket.gethostname(), len(relays)


def test_one_process_of_each_host_gets_the_weights(hosts: Callable[..., lp.Hosts]) -> None:
    # Given a learner with its weights on one host, and actors on three
    program = lp.Program("weights")
    weights = program.add_node(lp.WeightsNode(), label="weights")
    learner = program.add_node(lp.CourierNode(Learner, weights), label="learner")
    with program.group("actor"):
        actors = [program.add_node(lp.CourierNode(Actor, weights)) for _ in range(6)]
    placement = {"weights": "m1", "learner": "m1", "actor": ["m1", "m2", "m3"]}
    with lp.launch(program, "ssh", hosts=hosts(), placement=placement, stop_timeline=FAST_STOP):
        publisher = learner.dereference()
        readers = lp.broadcast(actors)
        for version in (1, 2, 3):
            # When a version is published, then all have it, and on each other host one of them has got it for all
            publisher.publish(version)
            read = readers.read(version)
            assert [value for value, _, _ in read] == [version] * 6
            relays = {name: sum(count for _, host, count in read if host == name) for name in ("m1", "m2", "m3")}
            assert relays == {"m1": 0, "m2": 1, "m3": 1}
