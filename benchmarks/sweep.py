"""Time of 100 runs of ``true``, two at a time, journal and logs included; JSON lines of ``sweep.*`` metrics.

sweep.100_noop_s: from the description to the last run's end, after the imports, as in the peer's script.

``--compare DIR --peers VENVS`` runs DIR/sweep_sample_factory.py, which measures Sample Factory's launcher without its
pauses (installed in VENVS/sample_factory), and this script in turn, and prints medians and their ratio.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from compare import add_arguments, emit, in_turn, parse, run

RUN_TIMEOUT_S = 180.0


def measure() -> None:
    """One sweep."""
    from kourou.experiments import Experiment, ParamGrid, RunDescription, Share, run_sweep  # noqa: PLC0415 - see compare

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        grid = ParamGrid([("seed", list(range(100)))])
        description = RunDescription("noop", [Experiment("noop", "true", grid.generate_params(randomize=False))])
        outcome = run_sweep(description.generate_runs(folder), Path(folder, "noop"), share=Share(parallel=2))
        emit("sweep.100_noop_s", time.perf_counter() - start, 3)
        assert outcome.exit_code == 0
        assert len(list(Path(folder).rglob("stdout.log"))) == 100


def main() -> None:
    """Measure, or compare, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    args = parse(parser)
    if not args.compare:
        measure()
        return
    peer = [args.peers / "sample_factory" / "bin" / "python", args.compare / "sweep_sample_factory.py"]
    in_turn(
        "sample_factory",
        lambda: run(peer, timeout_s=RUN_TIMEOUT_S),
        lambda: run([sys.executable, __file__], timeout_s=RUN_TIMEOUT_S),
        args.rounds,
    )


if __name__ == "__main__":
    main()
