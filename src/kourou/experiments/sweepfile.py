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
import functools
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from kourou.experiments.configfile import read_config
from kourou.experiments.descriptions import Experiment, RunDescription
from kourou.experiments.failures import DescriptionError
from kourou.experiments.parameters import ParamGenerator, ParamGrid, ParamList, ParamNames
from kourou.experiments.runs import RunSpec
from kourou.experiments.search import Choice, Distribution, Integers, RandomSearch, SobolSearch, Uniform
from kourou.experiments.sections import Section

__all__ = ["Sweep", "load_sweep"]

T = TypeVar("T")


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
    seed_param: str | None = "seed"
    """The parameter that gets the seed; None: nobody does."""

    def runs(self) -> tuple[RunSpec, ...]:
        """All runs, as ``RunDescription.generate_runs``."""
        return self.description.generate_runs(
            self.train_dir, repeats=self.repeats, root_seed=self.root_seed, seed_param=self.seed_param
        )


def load_sweep(path: str | os.PathLike[str]) -> Sweep:
    """Read a sweep from a file. Functions that it names are imported; nothing is started.

    Raises:
        FileNotFoundError: there is no such file.
        DescriptionError: a setting is missing, unknown or wrong; the message says which, and where in the file.
        MissingExtra: what reads YAML (or TOML on Python 3.10) is not installed.
    """
    top = Section(read_config(path), f"{Path(path).name}: ")
    name = top.take("name", str)
    places = [(top.place(f"experiments[{i}]"), item) for i, item in enumerate(top.take("experiments", list))]
    if not places:
        raise DescriptionError(f"{top.place('experiments')}: expected at least one experiment")
    names: dict[str, Any] = {
        option: top.take(option, str, default)
        for option, default in (
            ("experiment_arg_name", "--experiment"),
            ("experiment_dir_arg_name", "--train_dir"),
            ("param_prefix", "--"),
            ("value_style", "python"),
        )
    }
    customize = top.take("customize_experiment_name", bool, default=True)
    suffix = top.take("experiment_suffix", str, "")
    train_dir = top.take("train_dir", str, "./train_dir")
    repeats = top.take("repeats", int, None)
    root_seed = top.take("seed", int, 0)
    seed_param = top.take("seed_param", (str, type(None)), "seed")
    top.finish()
    experiments = [_experiment(Section(values, place)) for place, values in places]
    description = _at(top.path, lambda: RunDescription(name, experiments, customize_experiment_name=customize, **names))
    description.experiment_suffix = suffix
    sweep = Sweep(
        description=description,
        train_dir=train_dir,
        repeats=repeats,
        root_seed=root_seed,
        seed_param=seed_param or None,  # TOML has no null, so an empty text says the same
    )
    _at(top.path, sweep.runs)
    return sweep


def _experiment(section: Section) -> Experiment:
    name = section.take("name", str)
    kind = section.one_of("command", "function", "program")
    target: Any = (
        section.take("command", (str, list))
        if kind == "command"
        else _imported(section.take(str(kind), str), section.place(str(kind)))
    )
    env = section.take("env", dict, {})
    params = _generator(section.section("params"))
    section.finish()
    is_maker = kind == "program" and isinstance(target, Callable)  # type: ignore[arg-type] # isinstance takes it
    return _at(section.path, lambda: Experiment(name, target, params, env, makes_program=is_maker))


def _generator(section: Section) -> Any:
    where = section.take("where", (str, list), None)
    shuffle = section.take("shuffle", int, None)
    kind = section.one_of("grid", "list", "random", "sobol", optional=True)
    make: Callable[[], ParamGenerator]
    if kind is None:
        section.finish()
        return ()
    if kind == "grid":
        grid = section.section("grid")
        axes = [(_names(key), grid.take(key, list)) for key in grid.names()]
        make = lambda: ParamGrid(axes, where=where)  # noqa: E731 - made where mistakes get their place
    elif kind == "list":
        combinations = section.take("list", list)
        make = lambda: ParamList(combinations, where=where)  # noqa: E731 - as above
    else:
        search = section.section(kind)
        count, seed = search.take("n", int), search.take("seed", int, 0)
        space = _space(search.section("space"))
        search.finish()
        search_class = RandomSearch if kind == "random" else SobolSearch
        make = lambda: search_class(space, count, seed=seed, where=where)  # noqa: E731 - as above
    section.finish()
    place = section.place(kind)
    return _at(place, lambda: list(make().generate_params(randomize=shuffle is not None, seed=shuffle or 0)))


def _space(section: Section) -> dict[ParamNames, Distribution]:
    space: dict[ParamNames, Distribution] = {}
    for key in section.names():
        value, place = section.take(key, (list, dict)), section.place(key)
        if isinstance(value, list):
            space[_names(key)] = _at(place, functools.partial(Choice, values=value))
            continue
        options = Section(value, place)
        kind = str(options.one_of("uniform", "log_uniform", "integers", "log_integers", "choice"))
        values = options.take(kind, list)
        options.finish()
        space[_names(key)] = _at(options.place(kind), functools.partial(_distribution, kind, values))
    return space


def _distribution(kind: str, values: list[Any]) -> Distribution:
    if kind == "choice":
        return Choice(values=values)
    if len(values) != 2:  # noqa: PLR2004 - a lowest and a highest
        raise DescriptionError(f"expected [lowest, highest], got {values!r}")
    low, high = values
    is_log = kind.startswith("log_")
    return Integers(low=low, high=high, log=is_log) if "integers" in kind else Uniform(low=low, high=high, log=is_log)


def _names(key: str) -> ParamNames:
    """``"use_rnn, recurrence"`` names two parameters that vary together."""
    parts = tuple(part.strip() for part in key.split(","))
    return parts if len(parts) > 1 else key


def _imported(reference: str, place: str) -> Any:
    module, _, name = reference.partition(":")
    if not module or not name:
        raise DescriptionError(f"{place}: expected module:name, got {reference!r}")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there; what it imports itself is missing, and its own traceback says where
        raise DescriptionError(f"{place}: there is no module {module!r} to import") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise DescriptionError(f"{place}: {module} has no {name!r}")
        found = getattr(found, part)
    return found


def _at(place: str, make: Callable[[], T]) -> T:
    """What ``make`` returns; its mistakes are told with their place in the file."""
    try:
        return make()
    except DescriptionError as error:
        raise DescriptionError(f"{place.removesuffix(': ')}: {error}") from error
