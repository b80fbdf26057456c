"""What a sweep's journal tells whoever may not touch it."""

from __future__ import annotations

from pathlib import Path

from kourou.experiments.journal.journal import copied_journal, read_launches, read_records
from kourou.experiments.journal.run_records import RunRecord, without_launcher


def known_records(folder: Path) -> dict[str, RunRecord]:
    """What a sweep's journal says, if there is one."""
    with copied_journal(folder) as copy:
        known = {} if copy is None else read_records(copy)
    # Whoever launched them is dead, or the launch would be refused.
    return {run_id: without_launcher(record) for run_id, record in known.items()}


def last_backend(folder: Path) -> str:
    """The backend of a sweep's latest launch; empty: it was never launched."""
    with copied_journal(folder) as copy:
        launches = [] if copy is None else read_launches(copy)
    return launches[-1].backend if launches else ""
