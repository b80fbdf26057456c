"""Agents of Stable-Baselines3 (or anything with its interface) as a manager trains them."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kourou import errors
from kourou.experiments.managers.agent import Agent
from kourou.experiments.managers.writer import Writer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["StableBaselinesAgent"]

_EVAL_EPISODES = 10
_SEED_BELOW = 2**31


class StableBaselinesAgent(Agent):
    """Trains a model of Stable-Baselines3; budgets are environment steps.

    Args:
        env, eval_env, handed_over: see :class:`Agent`.
        algo_cls: the model's class, such as ``PPO``, or its name in ``stable_baselines3``.
        policy: of the model.
        model_kwargs: further arguments of the model.

    Raises:
        MissingExtra: a name is given, and stable-baselines3 is not installed.
    """

    name = "stable-baselines3"

    def __init__(
        self,
        env: Any,
        eval_env: Any = None,
        *,
        algo_cls: Any = "PPO",
        policy: Any = "MlpPolicy",
        model_kwargs: dict[str, Any] | None = None,
        **handed_over: Any,
    ) -> None:
        super().__init__(env, eval_env, **handed_over)
        seed = int(self.seeder.generate_state(1)[0]) % _SEED_BELOW
        arguments = {"seed": seed, "device": "cpu", "verbose": 0, **(model_kwargs or {})}
        self.model = _class_of(algo_cls)(policy, env, **arguments)
        _log_to(self.model, self.writer)

    def fit(self, budget: int, **kwargs: Any) -> None:
        """Train for a number of steps, on top of those that were trained before."""
        self.model.learn(int(budget), reset_num_timesteps=self.model.num_timesteps == 0, **kwargs)

    def eval(self, n_simulations: int = _EVAL_EPISODES, *, deterministic: bool = True, **kwargs: Any) -> float:
        """The mean return of some episodes."""
        del kwargs
        total = 0.0
        for _ in range(n_simulations):
            observation, _ = self.eval_env.reset()
            ended = False
            while not ended:
                action, _ = self.model.predict(observation, deterministic=deterministic)
                observation, reward, terminated, truncated, _ = self.eval_env.step(action)
                total += float(reward)
                ended = terminated or truncated
        return total / n_simulations

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model as Stable-Baselines3 does; the file ends in .zip, and its own tools read it."""
        file = Path(path).with_suffix(".zip")
        self.model.save(file)
        return file

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, algo_cls: Any = "PPO", **handed_over: Any) -> Self:
        """Read a model; what is not in its file has to be handed over."""
        agent = cls.__new__(cls)
        known = {name: handed_over.get(name) for name in ("env", "eval_env", "seeder", "writer", "output_dir")}
        Agent.__init__(agent, **known)
        agent.model = _class_of(algo_cls).load(path, env=agent.env, device="cpu")
        _log_to(agent.model, agent.writer)
        return agent


def _log_to(model: Any, writer: Writer) -> None:
    """Let what a model logs go to a writer, and nowhere else."""
    logging = importlib.import_module("stable_baselines3.common.logger")

    class ToWriter(logging.KVWriter):  # type: ignore[misc, name-defined] # loaded only when it is used
        def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
            del key_excluded
            for tag, value in key_values.items():
                if isinstance(value, (int, float)) or hasattr(value, "item"):
                    writer.add_scalar(tag, value, step)

        def close(self) -> None:
            pass

    model.set_logger(logging.Logger(folder=None, output_formats=[ToWriter()]))


def _class_of(algo_cls: Any) -> Any:
    if not isinstance(algo_cls, str):
        return algo_cls
    try:
        return getattr(importlib.import_module("stable_baselines3"), algo_cls)
    except ModuleNotFoundError as error:
        raise errors.MissingExtra("stable-baselines3", "sb3") from error
