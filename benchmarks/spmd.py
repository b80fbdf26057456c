"""Time of one call of a function in two CPU workers with gloo; JSON lines of ``spmd.*`` metrics.

spmd.gloo2_first_run_s: the first ``run()`` of a Launcher.
spmd.gloo2_run_s: the second.

``--compare DIR --peers VENVS`` runs DIR/spmd_torchrunx.py, which measures the second run of torchrunx (installed in
VENVS/torchrunx), the same with its first run, and this script in turn, and prints medians and their ratios.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from compare import add_arguments, emit, in_turn, parse, run

RUN_TIMEOUT_S = 180.0
PEERS_FIRST_RUN = """
import json, runpy, sys, time
import torchrunx
work = runpy.run_path(sys.argv[1])["work"]
launcher = torchrunx.Launcher(hostnames=["localhost"], workers_per_host=2, backend="gloo")
start = time.perf_counter()
assert launcher.run(work).rank(1) == (1, 2.0)
print(json.dumps({"metric": "spmd.gloo2_first_run_s", "value": time.perf_counter() - start}))
"""


def work() -> tuple[int, float]:
    """As the peer's."""
    import torch  # noqa: PLC0415 - the launcher does not need it
    import torch.distributed as dist  # noqa: PLC0415

    total = torch.ones(1)
    dist.all_reduce(total)
    return dist.get_rank(), total.item()


def measure() -> None:
    """Two runs of one Launcher."""
    os.environ.setdefault("KOUROU_LOG_DIR", "")
    from kourou.spmd import Launcher  # noqa: PLC0415 - the comparison does not need it

    with Launcher(hostnames=["localhost"], workers_per_host=2, backend="gloo") as launcher:
        for metric in ("spmd.gloo2_first_run_s", "spmd.gloo2_run_s"):
            start = time.perf_counter()
            assert launcher.run(work).rank(1) == (1, 2.0)
            emit(metric, time.perf_counter() - start)


def compare(rounds: int, scripts: Path, environments: Path) -> None:
    """Run the peer and kourou in turn."""
    python, script = environments / "torchrunx" / "bin" / "python", scripts / "spmd_torchrunx.py"

    def measured(*command: str | Path) -> dict[str, float]:
        quiet = {"TORCHRUNX_LOG_DIR": "", "KOUROU_LOG_DIR": ""}
        metrics: dict[str, float] = run(command, timeout_s=RUN_TIMEOUT_S, env=quiet)
        return metrics

    def theirs() -> dict[str, float]:
        return {**measured(python, script), **measured(python, "-c", PEERS_FIRST_RUN, script)}

    in_turn("torchrunx", theirs, lambda: measured(sys.executable, __file__), rounds)


def main() -> None:
    """Measure, or compare, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    args = parse(parser)
    if args.compare:
        compare(args.rounds, args.compare, args.peers)
    else:
        measure()


if __name__ == "__main__":
    main()
