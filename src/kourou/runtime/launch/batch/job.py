"""What a batch job executes. It may be told of its time limit before it is ready for anything, so that comes first."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from kourou.later import importing
from kourou.runtime.stopping.held_signal import HeldSignal


def main(folder: str) -> None:
    """Be the launcher of a run that was submitted, and end with its code."""
    near_limit = HeldSignal(signal.SIGUSR1)
    with importing():
        from kourou.runtime.launch.batch.stored_plan import StoredPlan  # noqa: PLC0415 - it takes a while

        stored = StoredPlan(Path(folder))
        allocation = stored.start_agents()
        from kourou.runtime.launch.batch import launcher  # noqa: PLC0415 - likewise, and agents start meanwhile

        plan = stored.load()
    code = launcher.bring_to_life(plan, stored.folder, near_limit=near_limit, allocation=allocation)
    if code not in {launcher.TERMINATED, launcher.NOT_REQUEUED}:
        stored.remove()
    sys.exit(code)
