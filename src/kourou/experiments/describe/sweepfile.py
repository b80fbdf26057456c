"""A whole sweep in one YAML, TOML or JSON file.

::

    name: mujoco                # the run's name; its folder is train_dir/name
    repeats: 4                  # runs of each setting, with seeds of their own
    seed: 7                     # from which these are derived
    experiments:
      - name: walkers
        command: python -m train --algo=APPO     # or function: module:name, or program: module:function
        env: {OMP_NUM_THREADS: 1}
        params:                 # one of grid, list, random and sobol
          grid:
            env: [ant, walker]
            use_rnn, recurrence: [[false, 1], [true, 16]]
          where: not (env == 'ant' and use_rnn)
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kourou.errors import GraphError
from kourou.experiments.describe.configfile import read_config
from kourou.experiments.describe.descriptions import Experiment, RunDescription
from kourou.experiments.describe.parameters import ParamGenerator, ParamGrid, ParamList, ParamNames, Params
from kourou.experiments.describe.runs import RunSpec
from kourou.experiments.describe.search import (
    Choice,
    Distribution,
    Integers,
    RandomSearch,
    SobolSearch,
    Uniform,
)
from kourou.experiments.failures import DescriptionError
from kourou.extras import load_extra
from kourou.runtime.model.engines import EngineOptions, known_engines

if TYPE_CHECKING:
    from kourou.experiments.describe.sweep_schema import DistributionSection, ExperimentSection, ParamsSection
    from kourou.experiments.describe.validation import ConfigFile, Keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep file says."""

    description: RunDescription
    """The experiments."""
    train_dir: str = "./train_dir"
    """The folder for everything; Sample Factory's default."""
    repeats: int | None = None
    """Runs of each setting, each with a seed of its own; None: one, without a seed."""
    root_seed: int = 0
    """From which seeds are derived."""
    on: EngineOptions | None = None
    """Whose hosts all runs share; None: nothing is said."""
    seed_param: str | None = "seed"
    """The parameter that gets the seed; None: nobody does."""

    @property
    def folder(self) -> Path:
        """Its own folder."""
        return Path(self.train_dir, self.description.run_name).absolute()

    def runs(self) -> tuple[RunSpec, ...]:
        """All runs, as ``RunDescription.generate_runs``."""
        return self.description.generate_runs(
            self.train_dir, repeats=self.repeats, root_seed=self.root_seed, seed_param=self.seed_param
        )


def load_sweep(path: str | os.PathLike[str]) -> Sweep:
    """Read a sweep from a file. Functions that it names are imported; nothing is started.

    Raises:
        FileNotFoundError: there is no such file.
        DescriptionError: a setting is missing, unknown or wrong; the message has a line for each, with its place.
        MissingExtra: pydantic, or what reads YAML (or TOML on Python 3.10), is not installed.
    """
    load_extra("pydantic")
    from kourou.experiments.describe.sweep_schema import SweepFile  # noqa: PLC0415 - pydantic is loaded where a file is read
    from kourou.experiments.describe.validation import ConfigFile  # noqa: PLC0415 - as is this

    settings = read_config(path)
    file = ConfigFile(path)
    section = file.check(SweepFile, settings)
    experiments = [_experiment(file, ("experiments", i), each) for i, each in enumerate(section.experiments)]
    names = section.model_dump(
        include={
            "customize_experiment_name",
            "experiment_arg_name",
            "experiment_dir_arg_name",
            "value_style",
        }
    )
    description = file.at((), lambda: RunDescription(section.name, experiments, form=section.arguments, **names))
    description.experiment_suffix = section.experiment_suffix
    sweep = Sweep(
        description=description,
        train_dir=section.train_dir,
        repeats=section.repeats,
        root_seed=section.seed,
        on=None if section.on is None else file.at(("on",), lambda: _engine(dict(section.on or {}))),
        seed_param=section.seed_param or None,  # TOML has no null, so an empty text says the same
    )
    file.at((), sweep.runs)
    return sweep


def sweep_schema() -> dict[str, Any]:
    """The JSON Schema of sweep files, from which editors complete and check them.

    Raises:
        MissingExtra: pydantic is not installed.
    """
    load_extra("pydantic")
    from kourou.experiments.describe.sweep_schema import json_schema  # noqa: PLC0415 - pydantic is loaded where it is needed

    return json_schema()


def _engine(said: dict[str, Any]) -> EngineOptions:
    kind = known_engines().get(str(said.pop("engine", None)))
    if kind is None:
        raise DescriptionError(f"engine is one of {', '.join(sorted(known_engines()))}")
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    try:
        return kind(**fields)
    except (TypeError, GraphError) as error:
        raise DescriptionError(str(error)) from None


def _experiment(file: ConfigFile, keys: Keys, section: ExperimentSection) -> Experiment:
    target: Any = section.command
    if section.chosen in {"function", "program"}:
        reference = section.function if section.program is None else section.program
        target = file.at((*keys, section.chosen), lambda: _imported(str(reference)))
    params = _combinations(file, (*keys, "params"), section.params)
    is_maker = section.program is not None and isinstance(target, Callable)  # type: ignore[arg-type] # isinstance takes it
    return file.at(keys, lambda: Experiment(section.name, target, params, section.env, makes_program=is_maker))


def _combinations(file: ConfigFile, keys: Keys, section: ParamsSection) -> list[Params]:
    if section.chosen is None:
        return []
    place, search = (*keys, section.chosen), section.random or section.sobol
    make: Callable[[], ParamGenerator]
    if search is not None:
        space = {_names(name): _distribution(file, (*place, "space", name), of) for name, of in search.space.items()}
        search_class = RandomSearch if section.random else SobolSearch
        make = lambda: search_class(space, search.n, seed=search.seed, where=section.where)  # noqa: E731 - called by `at`
    elif section.grid is not None:
        axes = [(_names(name), values) for name, values in section.grid.items()]
        make = lambda: ParamGrid(axes, where=section.where)  # noqa: E731 - called by `at`
    else:
        make = lambda: ParamList(section.combinations or (), where=section.where)  # noqa: E731 - called by `at`
    seed = section.shuffle
    return file.at(place, lambda: list(make().generate_params(randomize=seed is not None, seed=seed or 0)))


def _distribution(file: ConfigFile, keys: Keys, section: list[Any] | DistributionSection) -> Distribution:
    if isinstance(section, list):
        return file.at(keys, lambda: Choice(values=section))
    kind = str(section.chosen)
    values = getattr(section, kind)
    if kind == "choice":
        return file.at((*keys, kind), lambda: Choice(values=values))
    distribution = Integers if kind.endswith("integers") else Uniform
    return file.at((*keys, kind), lambda: distribution(low=values[0], high=values[1], log=kind.startswith("log_")))


def _names(key: str) -> ParamNames:
    """``"use_rnn, recurrence"`` names two parameters that vary together."""
    parts = tuple(part.strip() for part in key.split(","))
    return parts if len(parts) > 1 else key


def _imported(reference: str) -> Any:
    module, _, name = reference.partition(":")
    if not module or not name:
        raise DescriptionError(f"expected module:name, got {reference!r}")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there; what it imports itself is missing, and its own traceback says where
        raise DescriptionError(f"there is no module {module!r} to import") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise DescriptionError(f"{module} has no {name!r}")
        found = getattr(found, part)
    return found
