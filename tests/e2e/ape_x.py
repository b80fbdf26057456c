"""The Ape-X example over three hosts of an engine; of any engine, it goes on when one of them is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kourou as lp
from kourou.runtime.metrics.reading import read_metrics
from kourou.testing.polling import until

MAKER = f"{__file__}:make"
PLACEMENT: Mapping[str, Any] = {
    **dict.fromkeys(("replay", "weights", "learner", "evaluator"), "main"),
    "actor": {"one": 2, "two": 2},
}
LEARNING_S = 120.0
EVALUATIONS = 2

Nodes = Mapping[str, tuple[str, str, int]]
"""Name → state, host, attempt."""


def make() -> tuple[lp.Program, dict[str, Any]]:
    """For ``kourou run`` and ``kourou submit``, in the repository's root."""
    from examples.apex_dqn.main import make_program

    return make_program(), {"placement": PLACEMENT}


def nodes_of(status: Mapping[str, Any]) -> Nodes:
    """From what ``kourou status --json`` prints."""
    return {node["name"]: (node["state"], node["host"], node["attempt"]) for node in status["nodes"]}


def check_that_it_learns(run_dir: Path, nodes: Callable[[], Nodes]) -> None:
    """On all three hosts."""
    there = evaluations(run_dir)
    until(lambda: evaluations(run_dir) >= there + EVALUATIONS, LEARNING_S, "agents that are evaluated")
    seen = nodes()
    assert len({host for _, host, _ in seen.values()}) == 3, seen


def check_that_a_lost_host_takes_its_actors_only(
    run_dir: Path, nodes: Callable[[], Nodes], lose: Callable[[str], object], spared: str = ""
) -> None:
    """Lose a host of actors while it learns, another one than is spared."""
    check_that_it_learns(run_dir, nodes)
    before = nodes()
    # When one is lost that actors run on, in whatever they are
    actor = next(name for name, (_, host, _) in before.items() if "actor" in name and host != spared)
    lost = before[actor][1]
    lose(lost)
    # Then those start again elsewhere, and nothing else does
    until(lambda: nodes()[actor][2] > 1, LEARNING_S, "a restart")
    until(lambda: {state for state, _, _ in nodes().values()} == {"READY"}, LEARNING_S, "all nodes at work")
    after = nodes()
    for name, (_, host, attempt) in after.items():
        moved = before[name][1] == lost
        assert (attempt, host == before[name][1]) == ((2, False) if moved else (1, True)), (name, before, after)
    # and learning goes on
    there = evaluations(run_dir)
    until(lambda: evaluations(run_dir) >= there + EVALUATIONS, LEARNING_S, "agents that are evaluated")


def evaluations(run_dir: Path) -> int:
    """How often the evaluator has told how well the agents do."""
    there = (run_dir / "metrics.jsonl").exists()
    return sum(row["node"] == "evaluator/0" for row in read_metrics(run_dir)) if there else 0
