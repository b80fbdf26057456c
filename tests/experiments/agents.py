"""Agents for tests: small, deterministic, and each with one bad habit."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np

from kourou.experiments import Agent, ExperimentManager
from polling import until


class Walk(Agent):
    """Draws from every generator that there is: its own, its environment's, NumPy's and Python's."""

    name = "walk"

    def __init__(self, env: Any = None, step: float = 1.0, **handed_over: Any) -> None:
        super().__init__(env, **handed_over)
        self.step = step
        self.place = np.random.rand() + random.random()  # noqa: NPY002 - the global generator is what is tested
        if env is not None:
            env.reset()

    def fit(self, budget: int, **kwargs: Any) -> None:
        for i in range(budget):
            self.place += self.step * self.rng.normal() + np.random.rand() + random.random()  # noqa: NPY002 - as above
            if self.env is not None:
                self.place += float(self.env.step(self.env.action_space.sample())[0][0])
                self.env.reset()
            self.writer.add_scalar("place", self.place, i)

    def eval(self, **kwargs: Any) -> float:
        return float(self.place)


class Later(Agent):
    """Its code is still to be run when its methods have returned."""

    fits = 0

    async def fit(self, budget: int, **kwargs: Any) -> None:
        self.fits += budget

    async def eval(self, **kwargs: Any) -> float:  # type: ignore[override]  # what is tested
        return float(self.fits)


class Yields(Later):
    """None of its training is ever run, and it scores by no number."""

    def fit(self, budget: int, **kwargs: Any) -> Any:
        yield budget

    def eval(self, **kwargs: Any) -> Any:
        return None


class Net(Agent):
    """A small network of torch, which is imported only here."""

    name = "net"

    def __init__(self, **handed_over: Any) -> None:
        super().__init__(**handed_over)
        import torch

        self.net = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))

    def fit(self, budget: int, **kwargs: Any) -> None:
        import torch

        for _ in range(budget):
            x = torch.randn(256, 16)
            loss = ((self.net(x) - x.sum(1, keepdim=True)) ** 2).mean()
            grads = torch.autograd.grad(loss, list(self.net.parameters()))
            with torch.no_grad():  # torch.optim would import a hundred modules more
                for parameter, grad in zip(self.net.parameters(), grads, strict=True):
                    parameter.sub_(0.01 * grad)
            self.writer.add_scalar("loss", loss.item())

    def eval(self, **kwargs: Any) -> float:
        return float(sum(p.detach().double().sum() for p in self.net.parameters()))


class Faulty(Walk):
    """Fails in one of its fits, as long as a file says how; else trains."""

    name = "faulty"

    def __init__(self, fault: str = "", **handed_over: Any) -> None:
        super().__init__(**handed_over)
        self.fault = fault

    def fit(self, budget: int, **kwargs: Any) -> None:
        super().fit(budget)
        fault = Path(self.fault)
        if not self.fault or not fault.exists():
            return
        what = fault.read_text()
        if what == "killed once":
            fault.unlink()
        if what.startswith("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("the reward is not a number")


class Waiting(Walk):
    """Says in its folder that it has begun, and goes on once it is told there."""

    name = "waiting"

    def fit(self, budget: int, **kwargs: Any) -> None:
        assert self.output_dir is not None
        began = self.output_dir / "began"
        began.mkdir(parents=True, exist_ok=True)
        (began / str(os.getpid())).touch()
        until((self.output_dir / "go").exists, 120, "leave to go on")
        super().fit(budget)


class Plain:
    """No base class at all, and nothing to save itself with."""

    def __init__(self, start: int) -> None:
        self.total = start

    def fit(self, budget: int) -> None:
        self.total += budget

    def eval(self) -> int:
        return self.total


class Locked(Walk):
    """Cannot be pickled."""

    name = "locked"

    def __init__(self, env: Any = None, **handed_over: Any) -> None:
        super().__init__(env, **handed_over)
        self.lock = threading.Lock()


class PlainAndLocked(Plain):
    """Neither, without a base class."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self.lock = threading.Lock()


class SavesBadly(Walk):
    """Raises in a ``save`` of its own."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        raise TypeError(f"not to {Path(path).name}")


def manager(top: Path, agent: Any = Walk, **options: Any) -> ExperimentManager:
    """A manager with small numbers; ``mode`` is thread, slurm, or a context of processes."""
    mode = options.pop("mode", "thread")
    plain = mode in {"thread", "slurm"}
    how = {"parallelization": mode} if plain else {"parallelization": "process", "mp_context": mode}
    given = {"fit_budget": 10, "n_fit": 2, "seed": 42, "output_dir": top, **how, **options}
    return ExperimentManager(agent, **given)


def scores(made: ExperimentManager) -> list[float]:
    """What each trained agent evaluates to."""
    return [agent.eval() for agent in made.get_agent_instances()]
