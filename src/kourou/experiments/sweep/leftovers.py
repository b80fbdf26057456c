"""The zygote and runs of a launcher that was killed, which may outlive it for a moment."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from kourou.experiments.journal.journal import Journal, read_launches
from kourou.experiments.journal.run_records import RunState
from kourou.runtime.process import process_table

_GRACE_S = 3.0  # a zygote whose launcher died ends all below it in less than 2 s
_POLL_S = 0.02


def end_leftovers(folder: Path, journal: Journal) -> None:
    """Make sure that nothing of earlier launches runs any more, and journal as lost what they did not see end.

    The caller holds the sweep's lock, so their launchers are dead; on this host, so must be all that they started.
    """
    lost = [record for record in journal.records.values() if record.state is RunState.RUNNING and not record.job]
    if not lost:
        return
    here = socket.gethostname()
    launches = [launch.launch_id for launch in read_launches(folder) if launch.host == here]
    if launches:  # one was written down only after it had made sure of those before it
        _wait_for_end(f"{launches[-1]}:")
    for record in lost:
        cause = f"its launcher on {record.host or 'this host'} died"
        journal.append("ended", record.run_id, state=str(RunState.LOST), cause=cause)
    journal.commit()


def _wait_for_end(cookie: str) -> None:
    deadline = time.monotonic() + _GRACE_S
    while left := [pid for pid in process_table.escaped_from(cookie) if process_table.alive(pid)]:
        if time.monotonic() > deadline:
            process_table.signal_all(left)
        time.sleep(_POLL_S)
