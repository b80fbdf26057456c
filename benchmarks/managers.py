"""How fits of a torch agent share two cores; JSON lines of ``managers.*`` metrics.

managers.CONTEXT.fit_1_s, fit_2_s, fit_4_s: seconds of ``fit()`` with one, two and four fits in processes of that kind,
medians of rounds in which all three take turns.
managers.CONTEXT.4_fits_over_1 and 4_fits_over_2: medians of the rounds' ratios. On two cores four fits are as much
work for each as two in a row, so 2 is the best there can be for both.
managers.CONTEXT.cpu_4_over_1: seconds of CPU that a fit of four takes, over those of one alone: 1, if they do not
disturb one another. It says so on a machine that has other things to do, too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import torch
from compare import emit

from kourou.experiments import Agent, ExperimentManager, read_writer_data

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
        start = time.process_time()
        for step in range(budget):
            x = torch.randn(64, 32)
            loss = ((self.net(x) - x.sum(1, keepdim=True)) ** 2).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if step % 100 == 0:
                self.writer.add_scalar("loss", loss.item(), step)
        self.writer.add_scalar("cpu_s", time.process_time() - start)

    def eval(self) -> float:  # type: ignore[override] # as above
        x = torch.randn(1000, 32)
        return -float(((self.net(x) - x.sum(1, keepdim=True)) ** 2).mean())


def fit_s(context: Any, n_fit: int, budget: int) -> tuple[float, float]:
    """Seconds that ``fit()`` takes, and seconds of CPU that each fit takes."""
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
        took = time.perf_counter() - start
        written = read_writer_data(manager)
        return took, float(written[written["tag"] == "cpu_s"]["value"].mean())


def measure(context: str, budget: int, rounds: int) -> None:
    """One, two and four fits in turn."""
    times = [{n: fit_s(context, n, budget) for n in FITS} for _ in range(rounds)]
    for n in FITS:
        emit(f"managers.{context}.fit_{n}_s", statistics.median(each[n][0] for each in times), 2)
    for n in FITS[:-1]:
        emit(f"managers.{context}.4_fits_over_{n}", statistics.median(each[4][0] / each[n][0] for each in times), 3)
    emit(f"managers.{context}.cpu_4_over_1", statistics.median(each[4][1] / each[1][1] for each in times), 3)


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
