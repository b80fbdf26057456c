"""Finding runs by their folders: all in one place, and the one that a person means."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from kourou import errors
from kourou.runtime.files.run_folder import runs_dir
from kourou.runtime.files.run_info import INFO_FILE
from kourou.runtime.monitoring.found_run import FoundRun

LATEST = ("-", "last")
"""What may be typed for the newest run."""
_MOST_LISTED = 10


def find_runs(parent: str | os.PathLike[str] | None = None, prefix: str = "") -> list[FoundRun]:
    """The runs of this user whose folders in ``parent`` begin with ``prefix``, the newest first.

    Args:
        parent: None: where runs are by default.
        prefix: of their names; "" for all.
    """
    folder = Path(parent) if parent is not None else runs_dir()
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if not path.name.startswith(prefix):
            continue
        with contextlib.suppress(errors.NotOwned):  # many users may keep their runs in one folder
            if (run := FoundRun.of_folder(path)) is not None:
                found.append(run)
    return sorted(found, key=lambda run: run.info.started_at, reverse=True)


def find_run(folder: Path) -> FoundRun:
    """The run of this folder.

    Raises:
        NotFound: there is none.
        NotOwned: others could have written it.
    """
    found = FoundRun.of_folder(folder)
    if found is None:
        raise errors.NotFound(f"{folder} is no run's folder")
    return found


def choose_run(word: str, parent: str | os.PathLike[str] | None = None) -> FoundRun:
    """The run that a person means.

    Only folders that may be meant are opened: people keep thousands of runs.

    Args:
        word: a run's id, the beginning of one, its folder, or one of :data:`LATEST` for the newest run.
        parent: where to look; None: where runs are by default.

    Raises:
        NotFound: none is meant, or several are.
        NotOwned: it is one that others could have written.
    """
    where = Path(parent) if parent is not None else runs_dir()
    if word in LATEST:
        meant = _newest(where)
    elif (folder := Path(word).expanduser()).name != word:
        return find_run(folder.absolute())
    elif run := FoundRun.of_folder(where / word):
        return run
    else:
        meant = find_runs(where, word)
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise errors.NotFound(f"{word!r} may mean any of {len(meant)} runs; type more of its name:\n{_listed(meant)}")
    runs = find_runs(where)
    if not runs:
        raise errors.NotFound(f"there are no runs in {where}; KOUROU_RUNS_DIR or --runs-dir choose another place")
    raise errors.NotFound(f"no run in {where} begins with {word!r}; there are:\n{_listed(runs)}")


def _newest(where: Path) -> list[FoundRun]:
    """The run that was started last, if there are any. A file is never older than the start that it tells of."""
    written = []
    for folder in where.iterdir() if where.is_dir() else ():
        with contextlib.suppress(OSError):
            written.append(((folder / INFO_FILE).stat().st_mtime, folder))
    newest: FoundRun | None = None
    for when, folder in sorted(written, reverse=True):
        if newest is not None and when < newest.info.started_at:
            break
        with contextlib.suppress(errors.NotOwned):
            run = FoundRun.of_folder(folder)
            if run is not None and (newest is None or run.info.started_at > newest.info.started_at):
                newest = run
    return [newest] if newest else []


def _listed(runs: list[FoundRun]) -> str:
    lines = [f"  {run.run_id}  ({run.state}, {int(time.time() - run.info.started_at)} s ago)" for run in runs]
    more = [f"  and {len(lines) - _MOST_LISTED} more"] if len(lines) > _MOST_LISTED else []
    return "\n".join([*lines[:_MOST_LISTED], *more])
