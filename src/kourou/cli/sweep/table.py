"""A sweep as a table for people."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kourou.cli.terminal.formats import UNKNOWN, duration
from kourou.cli.terminal.rows import add_flexible_column, leave_out, most_urgent, one_line, plain_table
from kourou.experiments.journal.run_folder import STDOUT_FILE
from kourou.experiments.journal.run_records import Progress, RunRecord, RunState, progress_of
from kourou.runtime.files.log_file import last_line

STATE_MARKS = {
    RunState.PENDING: ("○", "bright_black"),
    RunState.QUEUED: ("◌", "yellow"),
    RunState.RUNNING: ("●", "green"),
    RunState.SUCCEEDED: ("✓", "cyan"),
    RunState.FAILED: ("✗", "bold red"),
    RunState.TIMEOUT: ("✗", "red"),
    RunState.CANCELLED: ("⊘", "magenta"),
    RunState.INTERRUPTED: ("◍", "yellow"),
    RunState.LOST: ("✗", "magenta"),
}
# Where there is no room for all runs, these come first.
_URGENCY = (
    RunState.RUNNING,
    RunState.FAILED,
    RunState.TIMEOUT,
    RunState.LOST,
    RunState.INTERRUPTED,
    RunState.QUEUED,
    RunState.PENDING,
    RunState.CANCELLED,
    RunState.SUCCEEDED,
)
_OTHER_LINES = 7  # around the runs: heading, bar, blank, header, rule, what is hidden, cursor
_BAR_COLUMNS = 40
_WIDE = 100


def sweep_table(
    folder: Path,
    records: Sequence[RunRecord],
    *,
    width: int,
    height: int | None = None,
    parallel: int | None = None,
    fill: bool = True,
) -> RenderableType:
    """Heading, progress bar, and one row a run."""
    progress = progress_of(records, parallel=parallel)
    shown = most_urgent(records, None if height is None else height - _OTHER_LINES, _urgency)
    bar = Table.grid(padding=(0, 1, 0, 0))
    share = 100 * progress.done // max(1, progress.total)
    bar.add_row(ProgressBar(total=max(1, progress.total), completed=progress.done, width=_BAR_COLUMNS), f"{share}%")
    parts: list[RenderableType] = [_heading(folder, progress), bar, Text(), _rows(shown, width, fill=fill)]
    if hidden := len(records) - len(shown):
        parts.append(Text(f"  … and {hidden} more runs", style="bright_black"))
    return Group(*parts)


def _heading(folder: Path, progress: Progress) -> Text:
    text = Text.assemble((folder.name, "bold"), ("  ·  ", "bright_black"), f"{progress.done}/{progress.total} done")
    for state, (mark, style) in STATE_MARKS.items():
        if count := progress.counts.get(state):
            text.append("  ·  ", style="bright_black")
            text.append(f"{mark} {count} {str(state).lower()}", style=style)
    if progress.eta_s:  # what runs may take longer than all before it
        text.append("  ·  ", style="bright_black")
        text.append(f"about {duration(progress.eta_s)} to go")
    return text


def _rows(records: Sequence[RunRecord], width: int, *, fill: bool) -> Table:
    table = plain_table(fill=fill)
    wide = width >= _WIDE
    table.add_column("run", no_wrap=True, overflow="ellipsis", max_width=56 if wide else 28)
    table.add_column("state", no_wrap=True, min_width=12)
    table.add_column("try", justify="right", no_wrap=True)
    table.add_column("slot", justify="right", no_wrap=True)
    table.add_column("gpu", no_wrap=True, overflow="ellipsis", max_width=12)
    table.add_column("took", justify="right", no_wrap=True, min_width=7)
    if wide:
        add_flexible_column(table, "last line, or how it ended")
    now = time.time()
    for record in records:
        table.add_row(*_cells(record, now, wide=wide))
    leave_out(table, width, ("gpu", "slot", "try", "took") if not wide else ())
    return table


def _cells(record: RunRecord, now: float, *, wide: bool) -> list[RenderableType]:
    mark, style = STATE_MARKS[record.state]
    dim = "bright_black"
    took = now - record.started_at if record.state is RunState.RUNNING and record.started_at else record.duration_s
    retried = record.state is RunState.PENDING and record.attempt
    cells: list[RenderableType] = [
        Text(record.name, style=dim if record.state in {RunState.PENDING, RunState.SUCCEEDED} else ""),
        Text(f"{mark} {'to retry' if retried else str(record.state).lower()}", style=style),
        Text(str(record.attempt or ""), style="yellow" if record.attempt > 1 else dim),
        Text("" if record.slot is None else str(record.slot), style=dim),
        Text(UNKNOWN if record.gpus is None else ",".join(record.gpus), style=dim),
        Text("" if took is None else duration(took)),
    ]
    if wide:
        words = record.how_it_ended if record.state not in {RunState.RUNNING, RunState.SUCCEEDED} else ""
        if not words and record.attempt:
            words = last_line(Path(record.folder) / STDOUT_FILE)
        cells.append(one_line(words, dim))
    return cells


def _urgency(record: RunRecord) -> tuple[int, float]:
    """Of those that ended, the last ones come first."""
    return _URGENCY.index(record.state), -(record.ended_at or 0.0)
