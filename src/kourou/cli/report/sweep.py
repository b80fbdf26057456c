"""A sweep's report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.cli.report.curves import Line, figure
from kourou.cli.report.page import Markup, facts, folded, page, pre, section, table, word
from kourou.cli.report.run import local_time
from kourou.cli.report.timeline import Bar, Lane, Mark, timeline
from kourou.cli.sweep.results import setting_rows
from kourou.cli.sweep.status_and_logs import look
from kourou.cli.terminal.formats import duration
from kourou.experiments.journal.run_records import RunRecord, RunState, progress_of
from kourou.experiments.journal.sweep_folder import FoundSweep
from kourou.experiments.results.plots import learning_curves
from kourou.experiments.results.results import load_results
from kourou.experiments.results.settings import summarize_settings

_MOST_FAILURES = 20
_MOST_FIGURES = 60
_TONES = {
    RunState.RUNNING: "good",
    RunState.SUCCEEDED: "done",
    RunState.INTERRUPTED: "warn",
    RunState.CANCELLED: "warn",
}
_TEXTS = {"setting", "run"}


def sweep_page(folder: Path) -> str:
    """The page of a sweep, as it is now or as it ended."""
    found = look(folder)
    results, curves = _results(folder)
    parts = [
        section("Settings", *results, note="Mean of the runs' last values, ± half of the 95 % interval of the mean."),
        section("Learning curves", *curves, note="Mean of the runs of each setting, and its 95 % interval."),
        section("Runs", _runs(found.records), *_failures(found.records)),
        section("When they ran", _times(found.records)),
    ]
    return page(folder.name, _facts(found), parts)


def _facts(found: FoundSweep) -> Markup:
    progress = progress_of(found.records)
    begun = [record.started_at for record in found.records if record.started_at]
    ended = [record.ended_at for record in found.records if record.ended_at]
    counts = "".join(
        f"{word(f'{count} {str(state).lower()}').html} &nbsp; " for state, count in progress.counts.items()
    )
    return facts(
        {
            "runs": progress.total,
            "states": Markup(counts),
            "run by": found.launcher,
            "about to go": duration(progress.eta_s) if progress.eta_s else None,
            "began": local_time(min(begun, default=None)),
            "ended": None if found.active else local_time(max(ended, default=None)),
            "folder": found.folder,
        }
    )


def _results(folder: Path) -> tuple[list[Markup], list[Markup]]:
    """What settings reached, and how; or why that cannot be told."""
    try:
        frame = load_results(folder)
        if not len(frame):
            return [pre("no run has logged anything yet")], []
        rows = setting_rows(summarize_settings(frame))
        numbers = [name for name in rows[0] if name not in _TEXTS]
        return [table(list(rows[0]), [list(row.values()) for row in rows], right=numbers)], list(_curves(frame))
    except (errors.MissingExtra, errors.ResultsError) as error:
        return [pre(str(error))], []


def _curves(frame: Any) -> Iterator[Markup]:
    try:
        curves = learning_curves(frame)
    except errors.ResultsError as error:  # too many settings for a picture, say
        yield pre(str(error))
        return
    figures = []
    for metric in list(dict.fromkeys(curve.metric for curve in curves))[:_MOST_FIGURES]:
        mine = [curve for curve in curves if curve.metric == metric and len(curve.band.steps)]
        lines = [
            Line(
                steps=list(map(float, curve.band.steps)),
                values=list(map(float, curve.band.mean)),
                low=list(map(float, curve.band.low)) if curve.band.runs > 1 else (),
                high=list(map(float, curve.band.high)) if curve.band.runs > 1 else (),
                color=curve.color,
                dashed=curve.dashed,
            )
            for curve in mine
        ]
        legend = [(curve.color, f"{curve.label or 'all runs'} (n={curve.band.runs})") for curve in mine]
        if lines:
            figures.append(figure(metric, lines, legend).html)
    yield Markup(f'<div class="plots">{"".join(figures)}</div>' if figures else "")


def _runs(records: Sequence[RunRecord]) -> Markup:
    params = dict.fromkeys(name for record in records for name in record.params)
    varied = [name for name in params if len({repr(record.params.get(name)) for record in records}) > 1]
    rows = [
        [
            record.name,
            word(record.state),
            *(record.params.get(name) for name in varied),
            record.seed,
            record.attempt or None,
            ",".join(record.gpus or ()),
            record.host,
            None if record.duration_s is None else duration(record.duration_s),
            record.cause if record.state is not RunState.SUCCEEDED else "",
        ]
        for record in records
    ]
    numbers = [*varied, "seed", "try", "took"]
    columns = ["run", "state", *varied, "seed", "try", "gpu", "host", "took", "how it ended"]
    return table(columns, rows, right=numbers)


def _failures(records: Sequence[RunRecord]) -> Iterator[Markup]:
    failed = [record for record in records if record.last_lines and record.state is not RunState.SUCCEEDED]
    for place, record in enumerate(failed[:_MOST_FAILURES]):
        title = f"{record.name}: {record.cause or str(record.state).lower()}"
        yield folded(title, pre("\n".join(record.last_lines)), pre(record.folder), is_open=place == 0)


def _times(records: Sequence[RunRecord]) -> Markup:
    now = time.time()
    lanes = []
    for record in records:
        if record.started_at is None:
            continue
        end = record.ended_at or now
        tone = _TONES.get(record.state, "bad")
        text = f"{str(record.state).lower()}, attempt {record.attempt}, {duration(end - record.started_at)}"
        marks = [Mark(at=end, sign="✗", tone=tone, text=record.cause)] if tone == "bad" else []
        bar = Bar(begin=record.started_at, end=end, tone=tone, text=text)
        lanes.append(Lane(name=record.name, bars=[bar], marks=marks))
    begin = min((lane.bars[0].begin for lane in lanes), default=now)
    return timeline(lanes, (), begin, max((lane.bars[0].end for lane in lanes), default=now))
