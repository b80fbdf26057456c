"""What may be in the files of an experiment with managers, its agents and its environments, as rlberry has them."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import Field

from kourou.experiments.describe.validation import Section

Arguments: TypeAlias = "dict[str, Any] | None"


class EnvironmentFile(Section):
    """How an environment is made."""

    constructor: str
    """``package.module.name`` of what makes it."""
    params: Arguments = None
    """The constructor's arguments."""


Environment: TypeAlias = "str | EnvironmentFile | None"
"""gymnasium's name of one, another file, or how it is made."""


class AgentFile(Section):
    """One agent of an experiment."""

    agent_class: str
    """``package.module.Class``."""
    agent_name: str | None = None
    """Without it, the file's name."""
    fit_budget: int | None = None
    """How much each fit may do."""
    train_env: Environment = None
    """To learn in, in place of the experiment's."""
    eval_env: Environment = None
    """To be evaluated in, in place of the experiment's."""
    init_kwargs: Arguments = None
    """Arguments of the class."""
    fit_kwargs: Arguments = None
    """Arguments of ``fit``."""
    eval_kwargs: Arguments = None
    """Arguments of ``eval``."""


class ExperimentFile(Section):
    """Agents that learn the same thing."""

    agents: Annotated[list[str | AgentFile], Field(min_length=1)]
    """Files, or what would be in them."""
    description: str | None = None
    """For readers."""
    seed: int | None = None
    """Of everything."""
    n_fit: int = 4
    """How many fits each agent has."""
    train_env: Environment = None
    """To learn in."""
    eval_env: Environment = None
    """To be evaluated in."""
    global_init_kwargs: Arguments = None
    """``init_kwargs`` of all agents; their own count more."""
    global_fit_kwargs: Arguments = None
    """``fit_kwargs`` of all agents."""
    global_eval_kwargs: Arguments = None
    """``eval_kwargs`` of all agents."""
