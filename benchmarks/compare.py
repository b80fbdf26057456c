"""Measuring a peer and kourou in turn: figures drift with the machine's load, a ratio taken in one go does not.

What the benchmarks share: a metric is one JSON line, a script that prints some runs as a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

METRIC = re.compile(r'\{"metric": [^}]*\}')  # anywhere in a line: a peer's processes may write to it without line ends

Measure = Callable[[], dict[str, float]]


def emit(metric: str, value: float, digits: int = 4) -> None:
    """Print one result."""
    print(json.dumps({"metric": metric, "value": round(value, digits)}), flush=True)


def run(
    command: Sequence[str | Path],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    dropped: Sequence[str] = (),
) -> dict[str, float]:
    """The metrics that a script prints, by name; what is left of its processes is killed.

    Args:
        command: the script.
        timeout_s: seconds that it may take.
        env: variables that are set for it.
        dropped: variables that it does not get. Without compiled files, both would measure Python's compiler, so
            PYTHONDONTWRITEBYTECODE never reaches it.
    """
    import subprocess  # noqa: PLC0415 - a run that is measured starts none

    left_out = {"PYTHONDONTWRITEBYTECODE", *dropped}
    environ = {name: value for name, value in os.environ.items() if name not in left_out} | dict(env or {})
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            sys.exit(f"{command} did not end within {timeout_s:.0f} s")
        finally:
            # One that hangs or fails may leave processes running; they would slow down what is measured next.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    records = [json.loads(record) for record in METRIC.findall(output)]
    if process.returncode or not records:
        sys.exit(f"{command} exited with {process.returncode}:\n{(output + errors)[-4000:]}")
    return {record["metric"]: record["value"] for record in records}


def in_turn(peer: str, theirs: Measure, ours: Measure, rounds: int, digits: int = 4) -> None:
    """Measure A B A B A B, and print for each metric our median, the peer's, and their ratio."""
    import statistics  # noqa: PLC0415 - likewise

    pairs = [(theirs(), ours()) for _ in range(rounds)]
    for metric in pairs[0][1]:
        their, our = (statistics.median(result[metric] for result in results) for results in zip(*pairs, strict=True))
        emit(metric, our, digits)
        emit(f"{metric}.{peer}", their, digits)
        emit(f"{metric}.ratio", our / their, digits)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --compare, --peers and --rounds."""
    parser.add_argument("--compare", type=Path, metavar="DIR", help="folder with the peer's script")
    parser.add_argument("--peers", type=Path, metavar="VENVS", help="folder with the peer's environment")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs of a comparison (default: %(default)s)")


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, once it is sure that --compare and --peers come together."""
    args = parser.parse_args()
    if (args.compare is None) != (args.peers is None):
        parser.error("--compare and --peers go together")
    return args
