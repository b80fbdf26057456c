"""What a Slurm job executes. It may be told of its time limit before it is ready for anything, so that comes first."""

from __future__ import annotations

import signal
import sys

from kourou.runtime.stopping.held_signal import HeldSignal


def main() -> int:
    """The job's exit code."""
    near_limit = HeldSignal(signal.SIGUSR1)
    from kourou.experiments.slurm.manifest import run_one  # noqa: PLC0415 - it takes a while

    return run_one(sys.argv[1:], near_limit)


if __name__ == "__main__":
    sys.exit(main())
