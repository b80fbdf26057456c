"""What a sweep's journal tells whoever may not touch it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kourou.experiments.journal.journal import JOURNAL_FILE, read_launches, read_records
from kourou.experiments.journal.run_records import RunRecord, without_launcher


def known_records(folder: Path) -> dict[str, RunRecord]:
    """What a sweep's journal says, if there is one."""
    with _copied_journal(folder) as copy:
        known = {} if copy is None else read_records(copy)
    # Whoever launched them is dead, or the launch would be refused.
    return {run_id: without_launcher(record) for run_id, record in known.items()}


def last_backend(folder: Path) -> str:
    """The backend of a sweep's latest launch; empty: it was never launched."""
    with _copied_journal(folder) as copy:
        launches = [] if copy is None else read_launches(copy)
    return launches[-1].backend if launches else ""


@contextlib.contextmanager
def _copied_journal(folder: Path) -> Iterator[Path | None]:
    """A folder with a copy of a sweep's journal, if it has one: looking into the original may write to it."""
    if not (folder / JOURNAL_FILE).exists():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="kourou-") as copy:
        for file in folder.glob(f"{JOURNAL_FILE}*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, copy)
        yield Path(copy)
