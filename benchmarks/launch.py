"""Time to start and to stop a program of one RPC sink and N worker processes; JSON lines of ``launch.N_*`` metrics.

launch.N_up_s: from the start of this interpreter until the last worker's call was answered.
launch.N_stop_s: from ``lp.stop()`` until the launcher's ``wait()`` has returned.

``--module torch``: every worker imports it; launch.N_torch_up_s, launch.torch_import_s (of an interpreter that does
nothing else, in turn) and the ratio of the two, medians of ``--rounds``.

``--compare DIR --peers VENVS`` runs DIR/launch_launchpad.py, which measures the same with Launchpad (installed in
VENVS/launchpad), and this script in turn, and prints both medians and their ratio.
"""

import time

# The first statement that can be, as in the peer's script: imports are part of what a user waits for.
STARTED_AT = time.time()

import argparse  # noqa: E402 - see above
import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from compare import add_arguments, emit, in_turn, parse, run  # noqa: E402

POLL_S = 0.002  # as in the peer's script
RUN_TIMEOUT_S = 120.0


def measure(nodes: int, module: str | None = None) -> None:
    """Launch, let every worker import a module and call once, stop."""
    import kourou as lp  # noqa: PLC0415 - the comparison must not pay for it

    class Sink:
        def __init__(self, path: Path) -> None:
            self._path = path
            self._seen = 0

        def hello(self) -> None:
            self._seen += 1

        def run(self) -> None:
            while self._seen < nodes:
                time.sleep(POLL_S)
            self._path.write_text(json.dumps({"up_at": time.time(), "stop_at": time.time()}), encoding="utf-8")
            lp.stop()

    class Worker:
        def __init__(self, sink: Sink) -> None:
            self._sink = sink
            if module is not None:
                importlib.import_module(module)

        def run(self) -> None:
            self._sink.hello()
            lp.wait_for_stop()

    path = Path(f"/tmp/kourou_launch_{os.getpid()}.json")  # noqa: S108 - as in the peer's script
    program = lp.Program("launch")
    with program.group("sink"):
        sink = program.add_node(lp.CourierNode(Sink, path))
    with program.group("worker"):
        for _ in range(nodes):
            program.add_node(lp.PyClassNode(Worker, sink))
    resources = {"worker": lp.PythonProcess(preload=None if module is None else [module])}
    lp.launch(program, launch_type="local_mp", terminal="current_terminal", local_resources=resources).wait()
    done_at = time.time()
    times = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    name = f"launch.{nodes}" if module is None else f"launch.{nodes}_{module}"
    emit(f"{name}_up_s", times["up_at"] - STARTED_AT)
    emit(f"{name}_stop_s", done_at - times["stop_at"])


def compare(nodes: int, rounds: int, scripts: Path, environments: Path) -> None:
    """Run the peer and kourou in turn."""
    peer: list[str | Path] = [environments / "launchpad" / "bin" / "python", scripts / "launch_launchpad.py"]
    own: list[str | Path] = [sys.executable, __file__, "--nodes", str(nodes)]

    def measured(command: list[str | Path]) -> dict[str, float]:
        # T0 would move the peer's start.
        metrics: dict[str, float] = run(command, timeout_s=RUN_TIMEOUT_S, env={"N": str(nodes)}, dropped=["T0"])
        return metrics

    in_turn("launchpad", lambda: measured(peer), lambda: measured(own), rounds)


def compare_with_import(nodes: int, rounds: int, module: str) -> None:
    """Run one import of a module, and workers that import it, in turn."""
    import statistics  # noqa: PLC0415 - the runs that are measured need neither
    import subprocess  # noqa: PLC0415

    own = [sys.executable, __file__, "--nodes", str(nodes), "--module", module, "--rounds", "0"]
    alone, up = [], []
    for _ in range(rounds):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        alone.append(time.perf_counter() - begun)
        up.append(run(own, timeout_s=RUN_TIMEOUT_S)[f"launch.{nodes}_{module}_up_s"])
    emit(f"launch.{module}_import_s", statistics.median(alone))
    emit(f"launch.{nodes}_{module}_up_s", statistics.median(up))
    emit(f"launch.{nodes}_{module}_up_s.ratio", statistics.median(up) / statistics.median(alone))


def main() -> None:
    """Measure, or compare, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=16, help="worker processes (default: %(default)s)")
    parser.add_argument("--module", help="what every worker imports")
    add_arguments(parser)
    args = parse(parser)
    if args.compare:
        compare(args.nodes, args.rounds, args.compare, args.peers)
    elif args.module and args.rounds:
        compare_with_import(args.nodes, args.rounds, args.module)
    else:
        measure(args.nodes, args.module)


if __name__ == "__main__":
    main()
