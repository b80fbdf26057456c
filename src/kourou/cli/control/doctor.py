"""``kourou doctor``."""

from __future__ import annotations

from collections.abc import Iterator

import typer
from rich.text import Text

from kourou.cli.terminal.output import console, print_json
from kourou.cli.terminal.rows import clean
from kourou.runtime.diagnosis.doctor import examine
from kourou.runtime.diagnosis.finding import Diagnosis, Severity
from kourou.runtime.monitoring.found_run import FoundRun

_CODES = {Severity.NOTE: 0, Severity.WARNING: 3, Severity.ERROR: 4}
_MARKS = {Severity.NOTE: ("·", "bright_black"), Severity.WARNING: ("!", "yellow"), Severity.ERROR: ("✗", "red")}


def show_diagnosis(found: FoundRun, *, as_json: bool) -> None:
    """Print what is the matter with a run; the exit code tells how bad it is."""
    diagnosis = examine(found)
    if as_json:
        print_json(diagnosis.to_dict())
    else:
        out = console()
        for line in diagnosis_lines(diagnosis):
            indent = len(line.plain) - len(line.plain.lstrip())
            for part in line[indent:].wrap(out, out.width - indent):  # further lines stand below the first one
                out.print(Text(" " * indent).append_text(part))
    if not diagnosis.healthy:
        raise typer.Exit(_CODES[diagnosis.severity])


def diagnosis_lines(diagnosis: Diagnosis) -> Iterator[Text]:
    """What people read of it."""
    good = diagnosis.healthy
    yield Text.assemble(
        ("✓ " if good else "✗ ", "green" if good else _MARKS[diagnosis.severity][1]),
        (diagnosis.run_id, "bold"),
        f" {diagnosis.state}: {diagnosis.summary}",
    )
    for finding in diagnosis.findings:
        mark, style = _MARKS[finding.severity]
        yield Text.assemble((f"{mark} ", style), (clean(finding.text), "bold" if style != "bright_black" else ""))
        for detail in finding.details:
            yield Text(f"    {clean(detail)}")
        if finding.ends:
            yield Text(f"    ends when: {clean(finding.ends)}", style="bright_black")
