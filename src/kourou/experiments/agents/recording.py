"""Telling an agent's writer of each step that the agent takes in its environment."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias, get_args

from kourou.experiments.agents.writer import Writer
from kourou.experiments.failures import DescriptionError, check_word
from kourou.extras import load_extra

Recorded: TypeAlias = Literal["reward", "action", "action_and_reward"]
"""What is written of a step, under the tags ``reward`` and ``action``."""


class Writing(Protocol):
    """An agent, as far as its steps are concerned."""

    writer: Writer


def record(env: Any, what: Recorded, agent: Writing) -> Any:
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
            self.told_agent: Writing | None = agent
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
