"""Time of one call of a function in two CPU workers with gloo; JSON lines of ``spmd.*`` metrics.

spmd.gloo2_first_run_s: the first ``run()`` of a Launcher.
spmd.gloo2_run_s: the second.

``--compare DIR --peers VENVS`` runs DIR/spmd_torchrunx.py, which measures the second run of torchrunx (installed in
VENVS/torchrunx), the same with its first run, and this script in turn, and prints medians and their ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUN_TIMEOUT_S = 180.0
METRIC = re.compile(r'\{"metric": [^}]*\}')
PEERS_FIRST_RUN = """
import json, runpy, sys, time
import torchrunx
work = runpy.run_path(sys.argv[1])["work"]
launcher = torchrunx.Launcher(hostnames=["localhost"], workers_per_host=2, backend="gloo")
start = time.perf_counter()
assert launcher.run(work).rank(1) == (1, 2.0)
print(json.dumps({"metric": "spmd.gloo2_first_run_s", "value": time.perf_counter() - start}))
"""


def emit(metric: str, value: float) -> None:
    """Print one result."""
    print(json.dumps({"metric": metric, "value": round(value, 4)}), flush=True)


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


def run(command: list[str | Path]) -> dict[str, float]:
    """The metrics that a script prints, by name."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"TORCHRUNX_LOG_DIR": "", "KOUROU_LOG_DIR": ""}
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            sys.exit(f"{command} did not end within {RUN_TIMEOUT_S:.0f} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    records = [json.loads(record) for record in METRIC.findall(output)]
    if process.returncode or not records:
        sys.exit(f"{command} exited with {process.returncode}:\n{(output + errors)[-4000:]}")
    return {record["metric"]: record["value"] for record in records}


def compare(rounds: int, scripts: Path, environments: Path) -> None:
    """Run the peer and kourou in turn: figures drift with the machine's load, a ratio taken in one go does not."""
    python, script = environments / "torchrunx" / "bin" / "python", scripts / "spmd_torchrunx.py"
    pairs = []
    for _ in range(rounds):
        theirs = {**run([python, script]), **run([python, "-c", PEERS_FIRST_RUN, script])}
        pairs.append((theirs, run([sys.executable, __file__])))
    for metric in pairs[0][1]:
        peer, ours = (statistics.median(result[metric] for result in results) for results in zip(*pairs, strict=True))
        emit(metric, ours)
        emit(f"{metric}.torchrunx", peer)
        emit(f"{metric}.ratio", ours / peer)


def main() -> None:
    """Measure, or compare, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", type=Path, metavar="DIR", help="folder with the peer's script")
    parser.add_argument("--peers", type=Path, metavar="VENVS", help="folder with the peer's environment")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs of a comparison (default: %(default)s)")
    args = parser.parse_args()
    if (args.compare is None) != (args.peers is None):
        parser.error("--compare and --peers go together")
    if args.compare:
        compare(args.rounds, args.compare, args.peers)
    else:
        measure()


if __name__ == "__main__":
    main()
