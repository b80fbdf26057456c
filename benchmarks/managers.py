"""How fits of a torch agent share two cores; JSON lines of ``managers.*`` metrics.

managers.CONTEXT.fit_1_s, fit_2_s, fit_4_s: seconds of ``fit()`` with one, two and four fits in processes of that kind,
medians of rounds in which all three take turns.
managers.CONTEXT.4_fits_over_1 and 4_fits_over_2: medians of the rounds' ratios. On two cores four fits are as much
work for each as two in a row, so 2 is the best there can be for both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import torch
from compare import emit

from kourou.experiments import Agent, ExperimentManager

FITS = (1, 2, 4)
BUDGET = 7_000  # steps; about 10 s on a core at 2.8 GHz, so that starting a process hardly counts


class Regression(Agent):
    """Learns a sum with a network as large as a small agent's, one batch for each step."""

    name = "regression"

    def __init__(self, **handed_over: Any) -> None:
        super().__init__(**handed_over)
        layers = [torch.nn.Linear(32, 256), torch.nn.Tanh(), torch.nn.Linear(256, 256), torch.nn.Tanh()]
        self.net = torch.nn.Sequential(*layers, torch.nn.Linear(256, 1))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)

    def fit(self, budget: int) -> None:  # type: ignore[override] # it takes no other arguments
        for step in range(budget):
            x = torch.randn(64, 32)
            loss = ((self.net(x) - x.sum(1, keepdim=True)) ** 2).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if step % 100 == 0:
                self.writer.add_scalar("loss", loss.item(), step)

    def eval(self) -> float:  # type: ignore[override] # as above
        x = torch.randn(1000, 32)
        return -float(((self.net(x) - x.sum(1, keepdim=True)) ** 2).mean())


def fit_s(context: Any, n_fit: int, budget: int) -> float:
    """Seconds that ``fit()`` takes."""
    with tempfile.TemporaryDirectory() as folder:
        manager = ExperimentManager(
            Regression,
            fit_budget=budget,
            n_fit=n_fit,
            seed=1,
            output_dir=folder,
            parallelization="process",
            mp_context=context,
            progress=False,
        )
        start = time.perf_counter()
        manager.fit()
        return time.perf_counter() - start


def measure(context: str, budget: int, rounds: int) -> None:
    """One, two and four fits in turn."""
    times = [{n: fit_s(context, n, budget) for n in FITS} for _ in range(rounds)]
    for n in FITS:
        emit(f"managers.{context}.fit_{n}_s", statistics.median(each[n] for each in times), 2)
    for n in FITS[:-1]:
        emit(f"managers.{context}.4_fits_over_{n}", statistics.median(each[4] / each[n] for each in times), 3)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", nargs="+", default=["forkserver", "spawn"], help="default: %(default)s")
    parser.add_argument("--budget", type=int, default=BUDGET, help="steps of a fit (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="default: %(default)s")
    args = parser.parse_args()
    for context in args.contexts:
        measure(context, args.budget, args.rounds)


if __name__ == "__main__":
    main()
