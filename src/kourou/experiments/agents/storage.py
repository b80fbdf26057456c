"""A fit's agent on disk: a folder for each call of ``fit``, and a file that says which one holds."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cloudpickle

from kourou.experiments.agents.agent import Agent, AgentNotSaved
from kourou.experiments.failures import ResultsError
from kourou.experiments.journal.run_folder import own_folder, read_json, write_json, write_whole
from kourou.ownership import open_own, read_own
from kourou.runtime.metrics.rows import METRICS_FILE
from kourou.shown import described

_STATE_FILE = "fitted.json"
_STEM = "agent"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted:
    """How far a fit has come, as its folder says."""

    calls: int = 0
    """Calls of ``fit`` that it has finished."""
    file: str = ""
    """Its agent, relative to its folder; empty: there is none yet."""
    own: bool = False
    """Whether the agent's class wrote that file, and can read it."""
    metrics_bytes: int = 0
    """How much of its metrics these calls have written."""


def fitted(folder: Path) -> Fitted:
    """What a fit's folder says."""
    data = read_json(folder / _STATE_FILE)
    return Fitted(**data) if data is not None else Fitted()


def delete_fit(folder: Path) -> None:
    """Let the fit begin anew."""
    shutil.rmtree(folder, ignore_errors=True)


def metrics_bytes(folder: Path) -> int:
    """How much a fit has written of its metrics."""
    metrics = folder / METRICS_FILE
    return metrics.stat().st_size if metrics.exists() else 0


def check_savable(agent: Any) -> None:
    """Find out before a fit whether its agent can be saved after it. A ``save`` of its own may need training first.

    Raises:
        AgentNotSaved: it cannot be pickled.
    """
    save = getattr(type(agent), "save", None)
    if save is Agent.save:
        agent.pickled()
    elif save is None:
        _pickled(agent)


def save_agent(agent: Any, folder: Path, calls: int) -> None:
    """Write an agent, and that the fit has finished so many calls; until the last step, the earlier agent holds.

    Raises:
        AgentNotSaved: it cannot be pickled, or its own ``save`` wrote nothing.
        OSError: the disk is full, or the like.
    """
    place = folder / f"{_STEM}-{calls}"
    shutil.rmtree(place, ignore_errors=True)
    own_folder(place)
    own = callable(getattr(agent, "save", None)) and callable(getattr(type(agent), "load", None))
    if own:
        try:
            agent.save(place / _STEM)  # some add a suffix of their own
        except (AgentNotSaved, OSError):
            raise
        except Exception as error:
            raise AgentNotSaved(f"{type(agent).__qualname__}.save raised {described(error)}") from error
        written = sorted(place.glob(f"{_STEM}*"))
        if not written:
            raise AgentNotSaved(f"{type(agent).__qualname__}.save wrote nothing to the path that it was given")
        file = written[0]
    else:
        file = place / f"{_STEM}.pkl"
        write_whole(file, _pickled(agent))
    for path in place.rglob("*"):  # an agent's own save may have left files open to others
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~(stat.S_IWGRP | stat.S_IWOTH))
    state = Fitted(
        calls=calls,
        file=file.relative_to(folder).as_posix(),
        own=own,
        metrics_bytes=metrics_bytes(folder),
    )
    write_json(folder / _STATE_FILE, dataclasses.asdict(state))
    for older in folder.glob(f"{_STEM}-*"):
        if older != place:
            shutil.rmtree(older, ignore_errors=True)


def _pickled(agent: Any) -> bytes:
    try:
        data: bytes = cloudpickle.dumps(agent)
    except Exception as error:
        kind = type(agent).__qualname__
        raise AgentNotSaved(
            f"{kind} cannot be pickled: {error}; give it save(path) and load(path), or use "
            'parallelization="thread", which keeps the agent in memory'
        ) from error
    return data


def load_agent(agent_class: Any, folder: Path, handed_over: Mapping[str, Any]) -> Any:
    """The agent of a fit that has finished a call.

    Raises:
        ResultsError: the fit has no agent yet.
    """
    state = fitted(folder)
    if not state.file:
        raise ResultsError(f"there is no agent in {folder}: it has not finished a fit")
    path = folder / state.file
    if state.own:
        open_own(path).close()
        return agent_class.load(path, **accepted(agent_class.load, handed_over))
    agent = cloudpickle.loads(read_own(path))
    if hasattr(agent, "writer") and "writer" in handed_over:
        agent.writer = handed_over["writer"]
    return agent


def accepted(function: Any, offered: Mapping[str, Any]) -> dict[str, Any]:
    """What of an offer a function takes: the parameters that it names; all, if what it takes beside goes to Agent."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    owner = getattr(function, "__self__", function)  # a class, or the class of a class method
    if any(p.kind is p.VAR_KEYWORD for p in parameters) and isinstance(owner, type) and issubclass(owner, Agent):
        return dict(offered)
    named = {p.name for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}}
    return {name: value for name, value in offered.items() if name in named}
