"""What the dashboard is tried on: a small Ape-X, whose names and words would run if a page took them for code."""

from __future__ import annotations

import numpy as np

import kourou as lp
from kourou import replay as kr

SCRIPT = "<img src=x onerror='window.hacked=1'>"
TABLE = f"transitions {SCRIPT}"


def make_tables() -> list[kr.Table]:
    limiter = kr.rate_limiters.MinSize(10)
    return [kr.Table(TABLE, kr.selectors.Prioritized(0.6), kr.selectors.Fifo(), 1000, limiter)]


class Inference:
    def act(self, observation: int) -> int:
        return observation


def learn(replay: kr.Client, weights) -> None:
    publisher, step = weights.publisher(), 0
    while not lp.wait_for_stop(0.05):
        replay.sample_batch(TABLE, 8)
        step += 1
        publisher.publish({"w": np.full(10, step)}, version=step)
        lp.log(step, loss=1 / step, **{f"</script>{SCRIPT}": step})
        print(f"step {step} {SCRIPT}\x1b[31mred\x1b[0m")


def act(replay: kr.Client, weights, inference: lp.CourierClient) -> None:
    subscriber, step = weights.subscriber(), 0
    while not lp.wait_for_stop(0.02):
        inference.act(step)
        subscriber.latest()
        replay.insert(np.zeros(4, np.float32), {TABLE: 1.0})
        step += 1


def make_apex(actors: int = 3) -> lp.Program:
    program = lp.Program("apex")
    replay = program.add_node(lp.ReplayNode(make_tables), label="replay")
    weights = program.add_node(lp.WeightsNode(keep=6), label="weights")
    inference = program.add_node(lp.CourierNode(Inference), label=f"inference {SCRIPT}")
    program.add_node(lp.PyNode(learn, replay, weights), label="learner")
    with program.group("actor", on_failure=lp.Restart()):
        for _ in range(actors):
            program.add_node(lp.PyNode(act, replay, weights, inference))
    return program
