"""Train two agents on CartPole, six fits each, and say whether one is better.

    python -m examples.managers.main

It takes about a minute on two cores, and writes tables to the terminal and learning curves to ``out/managers``.
There is no main guard: with kourou none is needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from examples.managers.agents import CrossEntropy, HillClimbing
from kourou.experiments import (
    ExperimentManager,
    MultipleManagers,
    compare_agents,
    plot_writer_data,
    summarize_agents,
)

parser = argparse.ArgumentParser()
parser.add_argument("--episodes", type=int, default=150, help="of each fit")
parser.add_argument("--n_fit", type=int, default=6)
parser.add_argument("--mp_context", default="forkserver", choices=("spawn", "forkserver", "fork"))
parser.add_argument("--output_dir", type=Path, default=Path("out/managers"))
args = parser.parse_args()

managers = MultipleManagers(parallelization="process", mp_context=args.mp_context)
for agent_class in (HillClimbing, CrossEntropy):
    managers.append(
        ExperimentManager(
            agent_class,
            "CartPole-v1",
            fit_budget=args.episodes,
            n_fit=args.n_fit,
            seed=42,
            output_dir=args.output_dir,
        )
    )
managers.fit()

for band in ("raw_curves", "ci"):
    plot_writer_data(
        managers.managers,
        "return",
        error_representation=band,
        smooth=True,
        title="CartPole-v1: return of an episode",
        savefig_fname=args.output_dir / f"{band}.png",
    )
summary, improvements = summarize_agents(managers.managers, n_simulations=10)
print(summary.round(1), improvements.round(2), sep="\n\n", end="\n\n")
print(compare_agents(managers.managers, n_simulations=10).round(3).to_string(index=False))
print(f"\ncurves: {args.output_dir}/raw_curves.png, {args.output_dir}/ci.png")
