"""Managers from YAML files, as rlberry's: one file for the experiment, and one, or a section, for each agent."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kourou.experiments.describe.configfile import named_in, read_config
from kourou.experiments.failures import DescriptionError
from kourou.experiments.managers.manager import MANAGER_FILE, ExperimentManager
from kourou.extras import load_extra

if TYPE_CHECKING:
    from kourou.experiments.describe.validation import Section
    from kourou.experiments.managers.experiment_schema import EnvironmentFile

SectionT = TypeVar("SectionT", bound="Section")

_PARTS = ("init_kwargs", "fit_kwargs", "eval_kwargs")
_BASE_KEY = "base_config"  # rlberry's name for it


def experiment_generator(arguments: Sequence[str] | None = None) -> Iterator[ExperimentManager]:
    """Managers of the experiment that the command line names; none of them is fitted yet.

    A script of three lines is a program::

        for manager in experiment_generator():
            manager.fit()

    with the arguments ``EXPERIMENT.yaml [--n_fit N] [--output_dir DIR] [--parallelization process|thread|slurm]
    [--max_workers N] [--enable_tensorboard]``.

    Args:
        arguments: in place of ``sys.argv``.
    """
    parser = argparse.ArgumentParser(description="Run an experiment that a YAML file describes.")
    parser.add_argument("experiment_path")
    parser.add_argument("--n_fit", type=int, default=None)
    parser.add_argument("--output_dir", default="results")
    parser.add_argument("--parallelization", default="process")
    parser.add_argument("--max_workers", type=int, default=None)
    parser.add_argument("--enable_tensorboard", action="store_true")
    said = vars(parser.parse_args(arguments))
    workers = said.pop("max_workers")
    said["max_workers"] = None if workers is None or workers < 1 else workers  # rlberry's -1: as many as there are CPUs
    if said["n_fit"] is None:
        del said["n_fit"]
    yield from managers_of_file(said.pop("experiment_path"), **said)


def managers_of_file(
    path: str | os.PathLike[str], *, output_dir: str | os.PathLike[str] = "results", **options: Any
) -> list[ExperimentManager]:
    """A manager for each agent of an experiment's file.

    The experiment has ``agents`` (a list of files, or of sections), and may have ``train_env``, ``eval_env``,
    ``seed``, ``n_fit``, ``description`` and ``global_init_kwargs``, ``global_fit_kwargs``, ``global_eval_kwargs`` for
    all agents. An agent has ``agent_class`` (``package.module.Class``), and may have ``agent_name``, ``fit_budget``,
    ``init_kwargs``, ``fit_kwargs``, ``eval_kwargs`` and environments of its own. An environment is the name of one of
    gymnasium's, or has ``constructor`` and ``params``, or is a file with these. Every file may build on another one,
    its ``base_config``. Paths are relative to the file that they stand in, or else to the working folder.

    Args:
        path: the experiment's file.
        output_dir: managers write to ``output_dir/NAME OF THE FILE``.
        options: further arguments of :class:`ExperimentManager`; they count more than the file.

    Raises:
        FileNotFoundError: there is no such file.
        DescriptionError: what is missing, unknown or wrong in a file, or a class that cannot be imported.
        MissingExtra: pydantic or PyYAML is not installed.
    """
    load_extra("pydantic")
    from kourou.experiments.managers.experiment_schema import (  # noqa: PLC0415 - needs pydantic
        AgentFile,
        ExperimentFile,
    )

    file = Path(path)
    experiment = _read(file, ExperimentFile)
    common = experiment.model_dump(include={"seed", "n_fit"}, exclude_unset=True)
    names: set[str] = set()
    made = []
    for number, given in enumerate(experiment.agents):
        place = named_in(file, given) if isinstance(given, str) else file
        agent = _read(place, AgentFile) if isinstance(given, str) else given
        name = agent.agent_name or (place.stem if place != file else f"agent{number}")
        if name in names:
            raise DescriptionError(f"{file}: two agents are called {name!r}: give one an agent_name")
        names.add(name)
        parts: dict[str, Any] = {}
        for part in _PARTS:
            parts[part] = {**(getattr(experiment, f"global_{part}") or {}), **(getattr(agent, part) or {})}
        for env in ("train_env", "eval_env"):
            where, section = (place, agent) if env in agent.model_fields_set else (file, experiment)
            parts[env] = _environment(where, getattr(section, env))
        arguments: dict[str, Any] = {"fit_budget": agent.fit_budget, **common, **parts, **options}
        folder = Path(output_dir) / file.stem
        made.append(
            ExperimentManager(_imported(place, agent.agent_class), agent_name=name, output_dir=folder, **arguments)
        )
    return made


def load_experiment_results(output_dir: str | os.PathLike[str], experiment_name: str) -> dict[str, ExperimentManager]:
    """For each agent of an experiment its latest manager, by name. It runs code of their files: load your own only.

    Raises:
        FileNotFoundError: there are none.
    """
    top = Path(output_dir) / Path(experiment_name).stem
    files = sorted(top.glob(f"*/{MANAGER_FILE}"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise FileNotFoundError(f"there is no manager in {top}")
    managers = [ExperimentManager.load(file) for file in files]
    return {manager.agent_name: manager for manager in managers}


def _read(path: Path, section: type[SectionT]) -> SectionT:
    from kourou.experiments.describe.validation import ConfigFile  # noqa: PLC0415 - needs pydantic

    return ConfigFile(path, base_key=_BASE_KEY).check(section, read_config(path, base_key=_BASE_KEY))


def _environment(file: Path, source: str | EnvironmentFile | None) -> Any:
    from kourou.experiments.managers.experiment_schema import EnvironmentFile  # noqa: PLC0415 - needs pydantic

    if isinstance(source, str) and Path(source).suffix in {".yaml", ".yml"}:
        file = named_in(file, source)
        source = _read(file, EnvironmentFile)
    if isinstance(source, EnvironmentFile):
        return _imported(file, source.constructor), dict(source.params or {})
    return source


def _imported(file: Path, name: str) -> Any:
    module, _, attribute = str(name).replace(":", ".").rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ValueError, ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not f"{module}.".startswith(f"{error.name}."):
            raise  # it is there, but something that it needs itself is not
        raise DescriptionError(f"{file}: {name!r} is no class that can be imported: {error}") from error
