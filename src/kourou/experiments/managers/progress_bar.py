"""A progress bar for fits."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from kourou.experiments.journal.run_records import RunRecord, RunState
from kourou.notebook import Display, bar, in_notebook


@contextlib.contextmanager
def progress_bar(what: str, total: int, *, show: bool | None) -> Iterator[Callable[[RunRecord], None]]:
    """A function that moves a bar, on standard error or below a notebook's cell, as fits change.

    Args:
        what: what is counted, such as ``fits``.
        total: how many.
        show: whether there is a bar; None: on a terminal, and in a notebook.
    """
    states: dict[str, RunState] = {}
    notebook = in_notebook()
    if not (notebook or sys.stderr.isatty() if show is None else show):
        yield lambda _: None
        return
    with (_in_notebook if notebook else _on_terminal)(what, total) as move:

        def on_change(record: RunRecord) -> None:
            states[record.run_id] = record.state
            counts = {
                "running": sum(state is RunState.RUNNING for state in states.values()),
                "failed": sum(state.failed for state in states.values()),
            }
            told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
            move(f"{what}: {told}" if told else what, sum(state.ended for state in states.values()))

        yield on_change


@contextlib.contextmanager
def _in_notebook(what: str, total: int) -> Iterator[Callable[[str, int], None]]:
    shown = Display(what, bar(what, 0, total))
    yield lambda text, done: shown.update(f"{done}/{total} {text}", bar(text, done, total))


@contextlib.contextmanager
def _on_terminal(what: str, total: int) -> Iterator[Callable[[str, int], None]]:
    from rich import progress  # noqa: PLC0415 - it takes 50 ms, and files need no bar
    from rich.console import Console  # noqa: PLC0415 - it takes 50 ms, and files need no bar

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, progress.TimeRemainingColumn(), console=Console(stderr=True)) as drawn:
        task = drawn.add_task(what, total=total)
        yield lambda text, done: drawn.update(task, completed=done, description=text)
