"""Time to start and stop n trivial processes of this host, and what they cost the launcher while nothing happens.

JSON lines, for each n of ``--nodes``, each in a launcher of its own: many.N_ready_s (from ``lp.launch`` until all are
READY), many.N_ready_ms_a_node, many.N_cpu_ms_a_node (of all processes together, until then), many.N_stop_s (from
``run.stop()`` until all are gone), many.N_launcher_kib_a_node (resident memory that the launcher has gained),
many.N_idle_percent (of a core, that the launcher takes while nothing happens).

``--plot PNG`` draws them over n.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from compare import emit, run

POLL_S = 0.01
IDLE_S = 5.0
RUN_TIMEOUT_S = 300.0


def measure(nodes: int) -> None:
    """Launch, wait until all are READY, do nothing for a while, stop."""
    import kourou as lp  # noqa: PLC0415 - whoever draws needs none of it

    program = lp.Program("many")
    with program.group("node"):
        for _ in range(nodes):
            program.add_node(lp.PyNode(lp.wait_for_stop))
    launcher = psutil.Process()
    lp.launch  # noqa: B018 - imports what launching takes, before its memory is taken for the nodes'
    before_bytes, begun = launcher.memory_info().rss, time.perf_counter()
    program_run = lp.launch(program, launch_type="local_mp", terminal="output_to_files")
    while any(str(record.state) != "READY" for record in program_run.nodes.values()):
        time.sleep(POLL_S)
    ready_s = time.perf_counter() - begun
    cpu_s = sum(_cpu_s(process) for process in [launcher, *launcher.children(recursive=True)])
    gained = launcher.memory_info().rss - before_bytes
    idle_from = _cpu_s(launcher)
    time.sleep(IDLE_S)
    idle_s = _cpu_s(launcher) - idle_from
    stopping = time.perf_counter()
    program_run.stop()
    stop_s = time.perf_counter() - stopping
    name = f"many.{nodes}"
    emit(f"{name}_ready_s", ready_s)
    emit(f"{name}_ready_ms_a_node", ready_s / nodes * 1e3)
    emit(f"{name}_cpu_ms_a_node", cpu_s / nodes * 1e3)
    emit(f"{name}_stop_s", stop_s)
    emit(f"{name}_launcher_kib_a_node", gained / nodes / 1024)
    emit(f"{name}_idle_percent", idle_s / IDLE_S * 100)


def _cpu_s(process: psutil.Process) -> float:
    """Of all threads that live; psutil counts in ticks of 10 ms, and a node takes less than one until it is READY."""
    spent_ns = 0
    for told in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
        spent_ns += int(told.read_text(encoding="ascii").split()[0])
    return spent_ns / 1e9


def draw(found: dict[int, dict[str, float]], path: Path) -> None:
    """Seconds to start and stop, and what a node costs, over n."""
    import matplotlib as mpl  # noqa: PLC0415 - only needed here

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    counts = sorted(found)

    def curve(axes: Any, metric: str, label: str) -> None:
        axes.plot(counts, [found[n][f"many.{n}_{metric}"] for n in counts], marker=".", label=label)

    curve(left, "ready_s", "until all are READY")
    curve(left, "stop_s", "until all have ended")
    left.set(title="Trivial processes of one host", xlabel="processes", ylabel="seconds")
    curve(right, "ready_ms_a_node", "until READY, ms a process")
    curve(right, "cpu_ms_a_node", "CPU, ms a process")
    curve(right, "launcher_kib_a_node", "launcher's memory, KiB a process")
    right.set(title="What one more costs", xlabel="processes", xscale="log", yscale="log")
    left.set_ylim(bottom=0)
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    print(f"wrote {path}", file=sys.stderr)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[20, 200, 1000], metavar="N")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    found = {}
    for nodes in options.nodes:
        command = [sys.executable, os.fspath(Path(__file__).absolute()), "--measure", str(nodes)]
        found[nodes] = run(command, timeout_s=RUN_TIMEOUT_S)
        for metric, value in found[nodes].items():
            emit(metric, value, 2)
    if options.plot:
        draw(found, options.plot)


if __name__ == "__main__":
    main()
