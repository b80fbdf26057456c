"""What agents wrote while they trained, as tables with rlberry's columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from kourou.experiments.agents.writer import fit_data
from kourou.experiments.failures import ResultsError
from kourou.experiments.journal.run_folder import read_json
from kourou.experiments.managers.manager import ExperimentManager
from kourou.extras import load_extra

Source: TypeAlias = ExperimentManager | str | os.PathLike[str] | Sequence[Any]
"""A manager, a manager's folder or file, a folder of such folders, or several of these."""

_FITS, _DESCRIPTION = "fits", "manager.json"


def read_writer_data(
    source: Source,
    *,
    preprocess_tag: str | Sequence[str] | None = None,
    preprocess_func: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
    id_agent: int | None = None,
) -> Any:
    """One DataFrame of all that agents wrote so far: rlberry's columns, and ``n_simu``, the number of the fit.

    It reads metrics only: nothing is unpickled, and fits may still be running. An agent's name that comes twice gets a
    ``*``.

    Args:
        source: whose.
        preprocess_tag: tags to change: ``preprocess_func`` (one, or one for each tag) gets a fit's values, an array.
        preprocess_func: see ``preprocess_tag``.
        id_agent: a fit; None: all.

    Raises:
        ResultsError: there is no manager, or nothing was written.
    """
    pandas = load_extra("pandas")
    frames = []
    found = list(_folders_of(source))
    for name, (_, fits) in zip(distinct([name for name, _ in found]), found, strict=True):
        for fit, folder in fits.items():
            data = fit_data(folder, name) if id_agent is None or fit == id_agent else None
            if data is not None:
                frames.append(_preprocessed(data, preprocess_tag, preprocess_func).assign(n_simu=fit))
    if not frames:
        raise ResultsError(f"no agent of {source} has written anything: agents write with self.writer.add_scalar")
    return pandas.concat(frames, ignore_index=True)


def managers_in(source: Source) -> list[ExperimentManager]:
    """The managers themselves; those of folders are loaded, which runs code of their files."""
    found: list[ExperimentManager] = []
    for one in _each(source):
        if isinstance(one, (str, os.PathLike)):
            found += [ExperimentManager.load(folder) for folder in _manager_folders(Path(one))]
        else:
            found.append(one)
    return found


def distinct(names: Iterable[str]) -> list[str]:
    """The names, with as many ``*`` behind each as make it unlike those before it."""
    told: list[str] = []
    for name in names:
        own = name
        while own in told:
            own += "*"
        told.append(own)
    return told


def _folders_of(source: Source) -> Iterable[tuple[str, Mapping[int, Path]]]:
    for one in _each(source):
        if isinstance(one, (str, os.PathLike)):
            for folder in _manager_folders(Path(one)):
                yield _name_of(folder), _fits_in(folder)
        else:
            yield one.agent_name, _fits_in(one.output_dir)


def _each(source: Source) -> Sequence[Any]:
    return [source] if isinstance(source, (str, os.PathLike)) or not isinstance(source, Sequence) else source


def _manager_folders(top: Path) -> list[Path]:
    top = top.parent if top.is_file() else top
    if (top / _DESCRIPTION).exists():
        return [top]
    found = sorted(file.parent for file in top.rglob(_DESCRIPTION))
    if not found:
        raise ResultsError(f"there is no manager in {top}")
    return found


def _name_of(folder: Path) -> str:
    return str((read_json(folder / _DESCRIPTION) or {}).get("agent_name", folder.name))


def _fits_in(folder: Path) -> dict[int, Path]:
    numbered = [path for path in (folder / _FITS).glob("*") if path.name.isdigit()]
    return {int(path.name): path for path in sorted(numbered, key=lambda path: int(path.name))}


def _preprocessed(
    data: Any,
    tags: str | Sequence[str] | None,
    functions: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None,
) -> Any:
    if tags is None or functions is None:
        return data
    names = [tags] if isinstance(tags, str) else list(tags)
    each = [functions] * len(names) if callable(functions) else list(functions)
    if len(each) != len(names):
        raise ResultsError(f"there are {len(names)} tags to preprocess, and {len(each)} functions")
    for name, function in zip(names, each, strict=True):
        rows = data["tag"] == name
        data.loc[rows, "value"] = function(data.loc[rows, "value"].to_numpy())
    return data
