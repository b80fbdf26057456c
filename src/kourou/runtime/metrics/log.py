"""``lp.log`` and its like: what was measured goes to the run that the calling code belongs to.

A node's rows go to its program's run, those of a sweep's run or a manager's fit to its folder; outside of all they go
nowhere, so that code which logs can be tried alone.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kourou.limits import with_remedy
from kourou.runtime.context import context
from kourou.runtime.metrics import images as pictures, rows, writing
from kourou.runtime.node_environment import NODE_VARIABLE, RUN_ATTEMPT_VARIABLE, RUN_DIR_VARIABLE

_LAUNCHER = "launcher"
_Destination = tuple[str, dict[str, Any]]
_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("kourou_metrics", default=None)


def log(step: float, **metrics: Any) -> None:
    """Record what was measured at a step, for the run that this code belongs to; outside of any, nothing.

    It works in nodes, in what they start, in a launcher while one program runs, in ranks, sweeps' runs and fits. Rows
    are in ``metrics.jsonl`` of the run's folder at once. It raises nothing for what is logged: see docs/metrics.md.

    Args:
        step: how far the run has come, in whatever unit it counts: updates, frames, episodes.
        metrics: numbers, also NumPy's and torch's, or texts. Names with other characters go as ``**{"loss/actor": x}``.
    """
    found = _destination()
    if found is not None:
        _append(found[0], rows.encode_row(step, metrics, found[1]))


def log_config(config: Mapping[str, Any] | None = None, /, **more: Any) -> None:
    """Record settings of the run; what is recorded twice is what was recorded last.

    Args:
        config: names and values, which may be mappings and lists themselves.
        more: further ones.
    """
    found = _destination()
    if found is not None:
        settings = rows.plain_config({**(config or {}), **more})
        _append(found[0], rows.encode_row(None, {}, {**found[1], rows.CONFIG: settings}))


def log_image(step: float, **images: Any) -> None:
    """Record pictures of a step, as files beside the metrics.

    Args:
        step: how far the run has come.
        images: by their names: arrays of height × width (× 1, 3 or 4 channels), of bytes or of floats from 0 to 1;
            pictures of Pillow, figures of matplotlib, or the path of a PNG file.
    """
    found = _destination()
    if found is None:
        return
    folder, marks = found
    plain_step = rows.plain_value("step", step)
    for name, image in images.items():
        try:
            file = pictures.save(Path(folder), name, str(plain_step), marks.get("node", ""), image)
        except Exception as error:  # noqa: BLE001 - the user's picture may raise anything
            _complain(f"image {name!r} is not recorded: {error}", f"image {name}")
            continue
        _append(folder, rows.encode_row(step, {}, {**marks, rows.IMAGE: {"name": name, "file": file}}))


def log_to(run_dir: str | os.PathLike[str], /, step: float, **metrics: Any) -> None:
    """Append what was measured at a step to the metrics of a folder, as ``log`` does.

    Raises:
        OSError: there is no such folder, the disk is full, or the like.
    """
    writing.append_once(os.fspath(run_dir), rows.encode_row(step, metrics, {}))


@contextlib.contextmanager
def logging_to(folder: str | os.PathLike[str]) -> Iterator[None]:
    """In the body, and this thread, :func:`log` records in a folder."""
    token = _chosen.set(os.fspath(folder))
    try:
        yield
    finally:
        _chosen.reset(token)
        writing.close_files(os.fspath(folder))


def metrics_owner() -> tuple[str, str]:
    """Whose metrics this code's are: the folder, and the node; empty: nobody's. For what is started elsewhere."""
    chosen = _chosen.get()
    folder, name, _ = (chosen, "", 1) if chosen else _owner()
    return folder, name


def _destination() -> _Destination | None:
    """The folder that this code's rows go to, and what marks them."""
    if chosen := _chosen.get():
        return chosen, {}
    folder, name, restarts = _owner()
    if not folder:
        return None
    marks: dict[str, Any] = {"node": name} if name else {}
    if restarts > 1:
        marks[rows.RESTART] = restarts
    node, told = context.current_node(), os.environ.get(RUN_ATTEMPT_VARIABLE, "")
    attempt = max(1 if node is None else node.incarnation, int(told) if told.isdecimal() else 1)
    if attempt > 1:
        marks[rows.ATTEMPT] = attempt
    return folder, marks


def _owner() -> tuple[str, str, int]:
    """The folder of the run that this code belongs to, the node, and how often that was started."""
    node = context.current_node()
    if node is not None:
        return node.binding.metrics_dir, node.name, node.attempt
    live = context.bindings()
    if len(live) == 1:
        return live[0].metrics_dir, _LAUNCHER, 1
    return (
        os.environ.get(RUN_DIR_VARIABLE, ""),
        os.fsencode(os.environ.get(NODE_VARIABLE, "")).decode(errors="replace"),
        1,
    )


def _append(folder: str, line: str) -> None:
    try:
        writing.append(folder, line)
    except OSError as error:
        _complain(f"cannot write metrics to {folder}: {with_remedy(error)}. What is logged is lost", folder)


_complained: set[str] = set()


def _complain(text: str, about: str) -> None:
    """Say it once."""
    if about not in _complained and len(_complained) < _MOST_COMPLAINTS:
        _complained.add(about)
        rows.warn(text)


_MOST_COMPLAINTS = 20
