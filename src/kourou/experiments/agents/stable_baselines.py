"""Agents of Stable-Baselines3 (or anything with its interface) as a manager trains them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kourou.experiments.agents.agent import Agent, AgentWithSimplePolicy
from kourou.extras import load_extra
from kourou.runtime.metrics.event_files import EventWriter

if TYPE_CHECKING:
    from typing_extensions import Self

_OF_AGENT = ("seeder", "writer", "output_dir", "writer_extra")
_SEED_BELOW = 2**31


class StableBaselinesAgent(AgentWithSimplePolicy):
    """Trains a model of Stable-Baselines3; budgets are environment steps.

    Args:
        env, eval_env: see :class:`Agent`.
        algo_cls: the model's class, such as ``PPO``, or its name in ``stable_baselines3``.
        policy: of the model.
        verbose: 1: the model prints what it logs as well.
        tensorboard_log: a folder to which it writes TensorBoard's files; a manager's ``enable_tensorboard`` needs none.
        model_kwargs: further arguments of the model.
        kwargs: those of :class:`Agent` go there, and all others to the model as well.

    Raises:
        MissingExtra: stable-baselines3, or for ``tensorboard_log`` tensorboard, is not installed.
    """

    name = "stable-baselines3"

    def __init__(
        self,
        env: Any,
        algo_cls: Any = "PPO",
        policy: Any = "MlpPolicy",
        verbose: int = 0,
        tensorboard_log: str | os.PathLike[str] | None = None,
        eval_env: Any = None,
        model_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(env, eval_env, **{name: kwargs.pop(name) for name in _OF_AGENT if name in kwargs})
        seed = int(self.seeder.generate_state(1)[0]) % _SEED_BELOW
        arguments = {"seed": seed, "device": "cpu", "verbose": verbose, **kwargs, **(model_kwargs or {})}
        self.model = _class_of(algo_cls)(policy, self.env, **arguments)
        self.tensorboard_log = tensorboard_log
        _log_to_its_writer(self)

    def fit(self, budget: int, **kwargs: Any) -> None:
        """Train for a number of steps, on top of those that were trained before."""
        self.model.learn(int(budget), **{"reset_num_timesteps": self.model.num_timesteps == 0, **kwargs})

    def policy(self, observation: Any, deterministic: bool = True) -> Any:  # noqa: FBT001, FBT002 - rlberry's
        """The model's action."""
        return self.model.predict(observation, deterministic=deterministic)[0]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model as Stable-Baselines3 does; the file ends in .zip, and its own tools read it."""
        file = Path(path).with_suffix(".zip")
        self.model.save(file)
        return file

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        algo_cls: Any = "PPO",
        tensorboard_log: str | os.PathLike[str] | None = None,
        **handed_over: Any,
    ) -> Self:
        """Read a model; what is not in its file has to be handed over."""
        agent = cls.__new__(cls)
        known = {name: handed_over.get(name) for name in ("env", "eval_env", *_OF_AGENT)}
        Agent.__init__(agent, **known)
        agent.model = _class_of(algo_cls).load(path, env=agent.env, device="cpu")
        agent.tensorboard_log = tensorboard_log
        _log_to_its_writer(agent)
        return agent


def _log_to_its_writer(agent: StableBaselinesAgent) -> None:
    """Let what the model logs go to its agent's writer, and where its user wants it beside."""
    logging = load_extra("stable_baselines3.common.logger")
    events = None if agent.tensorboard_log is None else EventWriter(agent.tensorboard_log)

    class ToWriter(logging.KVWriter):  # type: ignore[misc, name-defined, unused-ignore] # loaded only when it is used
        def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
            del key_excluded
            for tag, value in key_values.items():
                if isinstance(value, (int, float)) or hasattr(value, "item"):
                    agent.writer.add_scalar(tag, value, step)
                    if events is not None:
                        events.add_scalar(tag, float(value), step)

        def close(self) -> None:
            pass

    printed = [logging.HumanOutputFormat(sys.stdout)] if agent.model.verbose else []
    agent.model.set_logger(logging.Logger(folder=None, output_formats=[ToWriter(), *printed]))


def _class_of(algo_cls: Any) -> Any:
    if not isinstance(algo_cls, str):
        return algo_cls
    return getattr(load_extra("stable_baselines3"), algo_cls)
