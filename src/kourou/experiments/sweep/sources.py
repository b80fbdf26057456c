"""Where sweeps come from: files of settings, modules with a RUN_DESCRIPTION, functions, and folders of earlier ones."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from kourou.experiments.describe.descriptions import Experiment, RunDescription
from kourou.experiments.describe.runs import RunSpec
from kourou.experiments.describe.sweepfile import Sweep, load_sweep
from kourou.experiments.failures import DescriptionError
from kourou.experiments.sweep.launch import SOURCE_FILE
from kourou.ownership import read_own
from kourou.runtime.model.engines import EngineOptions
from kourou.working_folder import import_from_here, import_named, working_folder

_FILES = {".yaml", ".yml", ".toml", ".json"}
_VARIABLE = "RUN_DESCRIPTION"  # Sample Factory's name for it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Changes:
    """What a command line says in place of a sweep's own settings; None: nothing."""

    train_dir: str | None = None
    repeats: int | None = None
    root_seed: int | None = None
    experiment_suffix: str | None = None
    sweep_dir: str | None = None
    """The sweep's own folder, where it is not in the ``train_dir``, which may be a place on another machine."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedSweep:
    """A sweep that can be launched."""

    runs: tuple[RunSpec, ...]
    folder: Path
    """Its own folder: that of its description below the train_dir, or ``sweep_dir``."""
    source: dict[str, Any]
    """What :func:`load_source` would have to be given to get it again."""
    on: EngineOptions | None = None
    """Whose hosts all runs share; None: nothing is said."""


def load_source(target: str, changes: Changes | None = None) -> LoadedSweep:
    """Load a sweep.

    Args:
        target: a YAML, TOML or JSON file; ``package.module`` or ``path/to/file.py`` with a RUN_DESCRIPTION;
            ``…:name`` for another name in it, a RunDescription, a Sweep, or a function that returns one; or the folder
            of a sweep that was launched before.
        changes: settings to replace.

    Raises:
        FileNotFoundError: there is no such file.
        DescriptionError: there is nothing of the kind, or it has mistakes.
    """
    changes = changes or Changes()
    path = Path(target)
    if path.is_dir():
        return _reload(path, changes)
    if path.suffix in _FILES:
        import_from_here()
        sweep = load_sweep(path)
    else:
        sweep = _as_sweep(_find_attribute(target), target)
    overrides = {name: value for name, value in dataclasses.asdict(changes).items() if value is not None}
    if (suffix := overrides.pop("experiment_suffix", None)) is not None:
        sweep.description.experiment_suffix = suffix
    own = overrides.pop("sweep_dir", None)
    sweep = dataclasses.replace(sweep, **overrides)
    return LoadedSweep(
        runs=sweep.runs(),
        folder=Path(own).absolute() if own else sweep.folder,
        source={"target": target, "cwd": str(working_folder()), "changes": dataclasses.asdict(changes)},
        on=sweep.on,
    )


def _reload(folder: Path, changes: Changes) -> LoadedSweep:
    try:
        source = json.loads(read_own(folder / SOURCE_FILE))  # it says which module is imported
    except (FileNotFoundError, ValueError):
        raise DescriptionError(
            f"{folder} does not say what it was made from (no {SOURCE_FILE}): run again the script or file that made it"
        ) from None
    folder = folder.resolve()
    os.chdir(source["cwd"])  # the sweep's paths are relative to where it was launched first
    overrides = {name: value for name, value in dataclasses.asdict(changes).items() if value is not None}
    loaded = load_source(source["target"], Changes(**{**source["changes"], **overrides}))
    if not overrides and loaded.folder.resolve() != folder:
        raise DescriptionError(
            f"{folder} was moved, or what made it was changed: {source['target']} makes a sweep in {loaded.folder}, "
            "where all of its runs would begin anew; move it back, or say with --train-dir or --sweep-dir where it is"
        )
    return loaded


def _find_attribute(target: str) -> Any:
    name, _, attribute = target.rpartition(":") if ":" in target else (target, "", "")
    module = import_named(name, DescriptionError)
    attribute = attribute or _VARIABLE
    if not hasattr(module, attribute):
        raise DescriptionError(f"{name} has no {attribute}, which has to be a RunDescription; or write {name}:NAME")
    return getattr(module, attribute)


def _from_sample_factory(made: Any) -> RunDescription:
    """A description that was made with Sample Factory's own classes."""
    experiments = [Experiment(e.base_name, e.cmd, e.params, e.env_vars) for e in made.experiments]
    names = ("experiment_arg_name", "experiment_dir_arg_name", "customize_experiment_name", "param_prefix")
    return RunDescription(made.run_name, experiments, **{name: getattr(made, name) for name in names})


def _as_sweep(found: Any, target: str) -> Sweep:
    made = found() if callable(found) and not isinstance(found, type) else found
    if isinstance(made, RunDescription):
        return Sweep(description=made)
    if isinstance(made, Sweep):
        return made
    if hasattr(made, "run_name") and hasattr(made, "experiments"):
        return Sweep(description=_from_sample_factory(made))
    raise DescriptionError(f"{target} is no RunDescription and no Sweep, got {made!r}")
