"""Time to start and to stop a program of one RPC sink and N worker processes; JSON lines of ``launch.N_*`` metrics.

launch.N_up_s: from the start of this interpreter until the last worker's call was answered.
launch.N_stop_s: from ``lp.stop()`` until the launcher's ``wait()`` has returned.

``--compare DIR --peers VENVS`` runs DIR/launch_launchpad.py, which measures the same with Launchpad (installed in
VENVS/launchpad), and this script in turn, and prints both medians and their ratio.
"""

import time

# The first statement that can be, as in the peer's script: imports are part of what a user waits for.
STARTED_AT = time.time()

import argparse  # noqa: E402 - see above
import contextlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import signal  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

POLL_S = 0.002  # as in the peer's script
RUN_TIMEOUT_S = 120.0
METRIC = re.compile(
    r'\{"metric": [^}]*\}'
)  # anywhere in a line: the peer's nodes write to the same terminal without line ends


def emit(metric: str, value: float) -> None:
    """Print one result."""
    print(json.dumps({"metric": metric, "value": round(value, 4)}), flush=True)


def measure(nodes: int) -> None:
    """Launch, let every worker call once, stop."""
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

        def run(self) -> None:
            self._sink.hello()
            lp.wait_for_stop()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "times.json"
        program = lp.Program("launch")
        with program.group("sink"):
            sink = program.add_node(lp.CourierNode(Sink, path))
        with program.group("worker"):
            for _ in range(nodes):
                program.add_node(lp.PyClassNode(Worker, sink))
        lp.launch(program, launch_type="local_mp", terminal="current_terminal").wait()
        done_at = time.time()
        times = json.loads(path.read_text(encoding="utf-8"))
    emit(f"launch.{nodes}_up_s", times["up_at"] - STARTED_AT)
    emit(f"launch.{nodes}_stop_s", done_at - times["stop_at"])


def run(command: list[str | Path], nodes: int) -> dict[str, float]:
    """The metrics that a script prints, by name."""
    # T0 would move the peer's start; without compiled files, both would measure Python's compiler.
    dropped = {"T0", "PYTHONDONTWRITEBYTECODE"}
    env = {name: value for name, value in os.environ.items() if name not in dropped} | {"N": str(nodes)}
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            sys.exit(f"{command} did not end within {RUN_TIMEOUT_S:.0f} s")
        finally:
            # A launcher that hangs or fails may leave nodes running; they would slow down what is measured next.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    records = [json.loads(record) for record in METRIC.findall(output)]
    if process.returncode or not records:
        sys.exit(f"{command} exited with {process.returncode}:\n{(output + errors)[-4000:]}")
    return {record["metric"]: record["value"] for record in records}


def compare(nodes: int, rounds: int, scripts: Path, environments: Path) -> None:
    """Run the peer and kourou in turn: figures drift with the machine's load, a ratio taken in one go does not."""
    peer: list[str | Path] = [environments / "launchpad" / "bin" / "python", scripts / "launch_launchpad.py"]
    own: list[str | Path] = [sys.executable, __file__, "--nodes", str(nodes)]
    pairs = [(run(peer, nodes), run(own, nodes)) for _ in range(rounds)]
    for metric in pairs[0][1]:
        theirs, ours = (statistics.median(result[metric] for result in results) for results in zip(*pairs, strict=True))
        emit(metric, ours)
        emit(f"{metric}.launchpad", theirs)
        emit(f"{metric}.ratio", ours / theirs)


def main() -> None:
    """Measure, or compare, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=16, help="worker processes (default: %(default)s)")
    parser.add_argument("--compare", type=Path, metavar="DIR", help="folder with the peer's script")
    parser.add_argument("--peers", type=Path, metavar="VENVS", help="folder with the peer's environment")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs of a comparison (default: %(default)s)")
    args = parser.parse_args()
    if (args.compare is None) != (args.peers is None):
        parser.error("--compare and --peers go together")
    if args.compare:
        compare(args.nodes, args.rounds, args.compare, args.peers)
    else:
        measure(args.nodes)


if __name__ == "__main__":
    main()
