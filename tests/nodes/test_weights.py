"""WeightsNode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kourou as lp
from kourou.errors import GraphError
from polling import until

pytestmark = pytest.mark.usefixtures("no_leaks")

WAIT_S = 20.0
LAUNCH = pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])


def content(version: int) -> dict[str, Any]:
    return {"w": np.full(50_000, version), "step": version}


def learner(weights: Any, count: int) -> None:
    publisher = weights.publisher()
    for version in range(1, count + 1):
        publisher.publish(content(version), version, wait_s=WAIT_S)


def actor(weights: Any, last: int) -> None:
    subscriber = weights.subscriber()
    view = subscriber.require(timeout_s=WAIT_S)
    while view.version < last:
        newer = subscriber.latest(newer_than=view.version, timeout_s=WAIT_S)
        assert newer.version > view.version
        view = newer
        assert (view.weights["w"] == view.weights["step"]).all()
        assert view.weights["step"] == view.version


def waiter(weights: Any, path: Path) -> None:
    subscriber = weights.subscriber()
    assert subscriber.latest() is None
    path.touch()
    subscriber.latest(timeout_s=None)


@LAUNCH
def test_a_learner_publishes_and_actors_read(launch, launch_type) -> None:
    program = lp.Program("weights")
    weights = program.add_node(lp.WeightsNode(keep=3), label="weights")
    program.add_node(lp.PyNode(learner, weights, 30), label="learner")
    with program.group("actor"):
        for _ in range(2):
            program.add_node(lp.PyNode(actor, weights, 30))
    launch(program, launch_type).wait(labels=["learner", "actor"])


@LAUNCH
def test_who_waits_ends_with_the_program(launch, launch_type, tmp_path) -> None:
    program = lp.Program("weights")
    weights = program.add_node(lp.WeightsNode(), label="weights")
    program.add_node(lp.PyNode(waiter, weights, tmp_path / "waits"), label="actor")
    run = launch(program, launch_type)
    until((tmp_path / "waits").exists, WAIT_S, "the actor's wait")
    run.stop()
    assert [record.state for record in run.nodes.values()] == [lp.NodeState.FINISHED] * 2


def test_a_mistake_is_found_where_it_is_made() -> None:
    for keep in (0, -1, 2.0, True):
        with pytest.raises(GraphError, match="keep"):
            lp.WeightsNode(keep=keep)  # type: ignore[arg-type]  # what is tested
