"""What a batch job executes. It may be told of its time limit before it is ready for anything, so that comes first."""

from __future__ import annotations

import signal

from kourou.runtime.stopping.held_signal import HeldSignal

__all__ = ["main"]


def main(folder: str) -> None:
    """Be the launcher of a run that was submitted."""
    near_limit = HeldSignal(signal.SIGUSR1)
    from kourou.runtime.launch.batch import run_submitted  # noqa: PLC0415 - it takes a while

    run_submitted(folder, near_limit)
