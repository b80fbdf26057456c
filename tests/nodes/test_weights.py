"""WeightsNode."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np

import kourou as lp
from kourou.errors import GraphError
from kourou.runtime.monitoring.numbers import families
from kourou.runtime.monitoring.prometheus import exposition
from kourou.runtime.monitoring.run_search import find_run
from kourou.runtime.monitoring.sampling import RunSample, Sampler
from optional import pytest
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")

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


def mortal_learner(weights: Any, count: int) -> None:
    """Dies half way, once; then goes on from what was published last."""
    publisher = weights.publisher()
    first = publisher.last_version()
    for version in range((first or 0) + 1, count + 1):
        publisher.publish(content(version), version, wait_s=WAIT_S)
        if first is None and version == count // 2:
            os.kill(os.getpid(), signal.SIGKILL)


def bystander(weights: Any, path: Path) -> None:
    """Goes on publishing and reading while the node is killed and comes back."""
    publisher, subscriber = weights.publisher(), weights.subscriber()
    for version in range(1, 1_000_000):
        publisher.publish(content(version), version, wait_s=WAIT_S)
        view = subscriber.latest(newer_than=version - 1, timeout_s=0.2)
        if view is not None:  # else it was lost with the node before it was read
            assert view.weights["step"] == view.version == version
            path.write_text(str(version))
        del view
        if lp.wait_for_stop(0.001):
            return


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


def test_a_learner_that_is_restarted_goes_on(launch) -> None:
    program = lp.Program("weights")
    weights = program.add_node(lp.WeightsNode(keep=3), label="weights")
    with program.group("learner", on_failure=lp.Restart(backoff_s=0.01)):
        program.add_node(lp.PyNode(mortal_learner, weights, 10))
    program.add_node(lp.PyNode(actor, weights, 10), label="actor")
    run = launch(program, "local_mp")
    run.wait(labels=["learner", "actor"])
    assert run.nodes["learner/0"].attempt == 2


def test_the_node_is_killed_and_restarted(launch, tmp_path) -> None:
    # given a node that publishes and reads all the time
    program = lp.Program("weights")
    with program.group("weights", on_failure=lp.Restart(max_times=9, backoff_s=0.01)):
        weights = program.add_node(lp.WeightsNode())
    program.add_node(lp.PyNode(bystander, weights, tmp_path / "version"), label="learner")
    run = launch(program, "local_mp")
    until((tmp_path / "version").exists, WAIT_S, "the first version")
    for _ in range(2):
        # when the weights' node is killed
        pid = run.nodes["weights/0"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        # then publishing and reading go on with the one in its place
        until(lambda: run.nodes["weights/0"].state is lp.NodeState.READY and run.nodes["weights/0"].pid != pid, WAIT_S)  # noqa: B023
        before = int((tmp_path / "version").read_text() or 0)
        until(lambda: int((tmp_path / "version").read_text() or 0) > before + 1, WAIT_S, "the next version")  # noqa: B023
    run.stop()


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


def idle_reader(weights: Any) -> None:
    view = weights.subscriber(max_age_s=0.0).exact(5, timeout_s=None)
    assert not lp.wait_for_stop(WAIT_S * 3) or view.version


def test_a_stalled_learner_shows_in_status() -> None:
    # given a learner that publishes once and no more, and an actor that may not read what is that old
    program = lp.Program("stalled")
    weights = program.add_node(lp.WeightsNode(), label="weights")
    program.add_node(lp.PyNode(learner, weights, 5), label="learner")
    program.add_node(lp.PyNode(idle_reader, weights), label="actor")
    with lp.launch(program, "local_mt") as run:

        def told() -> RunSample:
            with Sampler(find_run(run.folder)) as sampler:
                return sampler.sample()

        # then the status of the weights' node tells both
        until(lambda: len(told().nodes["weights/0"].details) == 2, WAIT_S, "the actor to have the weights")
        sample = told()
        first, second = sample.nodes["weights/0"].details
        assert "default: version 5" in first
        assert "by learner/0" in first
        assert "actor/0" in second
        assert "has version 5, 0 behind" in second
        assert "older than its max_age_s=0" in second
        # and so do JSON and metrics, as numbers
        (node,) = (node for node in sample.to_dict()["nodes"] if node["name"] == "weights/0")
        (reader,) = node["weights"][0]["readers"]
        assert (reader["reader"], reader["version"], reader["lag"]) == ("actor/0", 5, 0)
        text = exposition(families(sample, {}))
        labels = 'node="weights/0",label="weights",weights="default"'
        assert f"kourou_weights_version{{{labels}}} 5.0\n" in text
        assert f'kourou_weights_reader_lag{{{labels},reader="actor/0"' in text
