"""A progress bar for fits."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from kourou.experiments.journal.run_records import RunRecord, RunState

__all__ = ["progress_bar"]


@contextlib.contextmanager
def progress_bar(what: str, total: int, *, show: bool | None) -> Iterator[Callable[[RunRecord], None]]:
    """A function that moves a bar on standard error as fits change.

    Args:
        what: what is counted, such as ``fits``.
        total: how many.
        show: whether there is a bar; None: on a terminal.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda _: None
        return
    from rich import progress  # noqa: PLC0415 - it takes 50 ms, and files need no bar
    from rich.console import Console  # noqa: PLC0415 - it takes 50 ms, and files need no bar

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, progress.TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        states: dict[str, RunState] = {}

        def on_change(record: RunRecord) -> None:
            states[record.run_id] = record.state
            counts = {
                "running": sum(state is RunState.RUNNING for state in states.values()),
                "failed": sum(state.failed for state in states.values()),
            }
            told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
            done = sum(state.ended for state in states.values())
            bar.update(task, completed=done, description=f"{what}: {told}" if told else what)

        yield on_change
