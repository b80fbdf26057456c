"""What a manager trains: anything with ``fit`` and ``eval``; and a small base class for those who want one."""

from __future__ import annotations

import abc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import cloudpickle

from kourou.experiments.agents.writer import Writer
from kourou.experiments.failures import DescriptionError, ExperimentError, check_word
from kourou.experiments.journal.run_folder import write_whole
from kourou.experiments.seeding import Seed, Seeder
from kourou.extras import load_extra
from kourou.ownership import read_own
from kourou.runtime.plan.payloads import why_not_picklable
from kourou.shown import described

if TYPE_CHECKING:
    from typing_extensions import Self


_NOT_SAVED = ("writer", "output_dir")  # given anew to an agent that is loaded
_SAVED_IF_POSSIBLE = ("env", "eval_env")  # an environment may hold a window or a socket; then it is made anew


class AgentNotSaved(ExperimentError, TypeError):
    """An agent cannot be written to disk; the message names the attribute that is to blame."""


@runtime_checkable
class AgentLike(Protocol):
    """All that a manager asks of an agent. ``save(path)`` and the class method ``load(path)`` are used if there."""

    def fit(self, budget: Any, /, **kwargs: Any) -> Any:
        """Train; a second call goes on from where the first one ended."""

    def eval(self, **kwargs: Any) -> Any:
        """A score; more is better."""


class Agent(abc.ABC):
    """Base class of agents: keeps what a manager hands over, and saves itself.

    Args:
        env: the environment to train on, made and seeded for this agent alone.
        eval_env: another one, to evaluate on.
        seeder: the agent's own stream of random numbers.
        writer: where metrics go.
        output_dir: a folder for whatever else the agent writes.
        writer_extra: what the writer is told of each step on ``env``, one of gymnasium's; None: nothing.
    """

    name = ""
    """What managers call the agent; empty: its class's name."""
    writer_extra: Recorded | None = None

    def __init__(
        self,
        env: Any = None,
        eval_env: Any = None,
        *,
        seeder: Seed = None,
        writer: Writer | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        writer_extra: Recorded | None = None,
    ) -> None:
        self.writer_extra = writer_extra
        self.env = env if writer_extra is None else record(env, writer_extra, self)
        self.eval_env = eval_env if eval_env is not None else env
        self.seeder = seeder if isinstance(seeder, Seeder) else Seeder(seeder)
        self.writer = writer if writer is not None else Writer(None)
        self.output_dir = Path(output_dir) if output_dir is not None else None

    @property
    def rng(self) -> Any:
        """The NumPy generator of the agent's own seeder."""
        return self.seeder.rng

    @abc.abstractmethod
    def fit(self, budget: Any, **kwargs: Any) -> Any:
        """Train for a budget, in whatever unit the agent counts: steps, episodes, seconds.

        A second call should go on from where the first one ended.
        """

    @abc.abstractmethod
    def eval(self, **kwargs: Any) -> float:
        """A score of the agent as it is; more is better."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the agent to a file, with its environments where these can be pickled; the file.

        Raises:
            AgentNotSaved: naming the attribute that cannot be pickled.
        """
        file = Path(path)
        write_whole(file, self.pickled())
        return file

    def pickled(self) -> bytes:
        """What :meth:`save` writes.

        Raises:
            AgentNotSaved: naming the attribute that cannot be pickled.
        """
        state = {name: value for name, value in vars(self).items() if name not in _NOT_SAVED}
        try:
            data: bytes = cloudpickle.dumps((type(self), state))
        except Exception:  # noqa: BLE001 - pickling runs the code of whatever the agent holds
            for name in _SAVED_IF_POSSIBLE:
                if why_not_picklable(state.get(name)) is not None:
                    del state[name]
            try:
                data = cloudpickle.dumps((type(self), state))
            except Exception as error:
                raise AgentNotSaved(_pickling_error(self, state, error)) from error
        return data

    @classmethod
    def load(cls, path: str | os.PathLike[str], **handed_over: Any) -> Self:
        """Read an agent that :meth:`save` wrote. It runs code of the file: load your own only.

        Args:
            path: the file.
            handed_over: what the file does not hold: ``writer``, ``output_dir``, environments that were not pickled.
        """
        made, state = cloudpickle.loads(read_own(path))
        agent: Self = made.__new__(made)
        given = {name: handed_over[name] for name in (*_NOT_SAVED, *_SAVED_IF_POSSIBLE) if name in handed_over}
        vars(agent).update({"writer": Writer(None), "output_dir": None, **given, **state})
        if agent.writer_extra is not None:
            agent.env = record(agent.env, agent.writer_extra, agent)
        return agent


class AgentWithSimplePolicy(Agent):
    """Base class of agents whose actions depend on the observation alone: they are evaluated by playing."""

    @abc.abstractmethod
    def policy(self, observation: Any) -> Any:
        """The action to take."""

    def eval(
        self, eval_horizon: int = 10**5, n_simulations: int = 10, gamma: float = 1.0, **policy_kwargs: Any
    ) -> float:
        """The mean return of some episodes on ``eval_env``.

        Args:
            eval_horizon: steps after which an episode is cut off.
            n_simulations: episodes.
            gamma: the discount.
            policy_kwargs: for :meth:`policy`.
        """
        total = 0.0
        for _ in range(n_simulations):
            observation, _ = self.eval_env.reset()
            for step in range(eval_horizon):
                action = self.policy(observation, **policy_kwargs)
                observation, reward, terminated, truncated, _ = self.eval_env.step(action)
                total += float(reward) * gamma**step
                if terminated or truncated:
                    break
        return total / n_simulations


def _pickling_error(agent: Agent, state: dict[str, Any], error: Exception) -> str:
    unpicklable = ((name, why_not_picklable(value)) for name, value in state.items())
    name, why = next((pair for pair in unpicklable if pair[1]), ("it", described(error)))
    kind = type(agent).__qualname__
    return (
        f"{kind}.{name} cannot be pickled: {why}; leave it out in {kind}.save, and make it anew in {kind}.load, "
        'or use parallelization="thread", which keeps the agent in memory'
    )


Recorded: TypeAlias = Literal["reward", "action", "action_and_reward"]
"""What is written of a step, under the tags ``reward`` and ``action``."""


def record(env: Any, what: Recorded, agent: Agent) -> Any:
    """The environment, which tells the agent's writer of its steps, counted from 1. One that was unpickled goes on.

    Raises:
        DescriptionError: not one of gymnasium's environments, or nothing that a step has.
        MissingExtra: gymnasium is not installed.
    """
    if hasattr(env, "told_agent"):
        env.told_agent = agent
        return env
    check_word("writer_extra is", what, get_args(Recorded), DescriptionError)
    gymnasium = load_extra("gymnasium")
    if not isinstance(env, gymnasium.Env):
        raise DescriptionError(f"writer_extra is for environments of gymnasium, got {env!r}")

    class Recording(gymnasium.Wrapper):  # type: ignore[misc, name-defined] # loaded only when it is used
        def __init__(self) -> None:
            super().__init__(env)
            self.told_agent: Agent | None = agent
            self.steps = 0

        def step(self, action: Any) -> Any:
            observation, reward, *rest = self.env.step(action)
            self.steps += 1
            for tag, value in (("reward", reward), ("action", action)):
                if tag in what and self.told_agent is not None:
                    self.told_agent.writer.add_scalar(tag, value, self.steps)
            return observation, reward, *rest

        def __getstate__(self) -> dict[str, Any]:
            return {**vars(self), "told_agent": None}

    return Recording()
