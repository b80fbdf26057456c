"""How a replay table scales with its size: time to sample, to change priorities and to insert, and memory, up to
10 million items.

    python benchmarks/replay_scaling.py --plot scaling.png --items 10000000

Prints JSON lines of ``replay.sample256_us``, ``replay.mutate256_us``, ``replay.insert_us`` (for each item of a batch)
and ``replay.bytes_per_item`` (resident memory of the server and its data, beyond the item's own bytes), for a uniform
and a prioritized table; the client calls from another process. ``--plot`` draws them over the number of items.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from kourou import replay

BATCH = 256
CHUNK = 50_000  # items that are inserted at once
CALLS = 200
FLOATS = 4  # of an item: its bytes hardly count, so that 10 million fit into memory


def serve(kind: str) -> None:
    """Be the server, until standard input ends."""
    selector = replay.selectors.Uniform(seed=0) if kind == "uniform" else replay.selectors.Prioritized(0.6, seed=0)
    limiter = replay.rate_limiters.MinSize(1)
    with replay.Server([replay.Table("t", selector, replay.selectors.Fifo(), 100_000_000, limiter)]) as server:
        print(server.address, flush=True)
        sys.stdin.read()


def median_us(call: Any, calls: int = CALLS) -> float:
    """The median time of a call."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def measure(kind: str, most: int) -> list[dict[str, float]]:
    """Grow a table, and look at it each time that it is about three times larger."""
    command = [sys.executable, __file__, "--serve", kind]
    found = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdin is not None  # noqa: PT018 - pipes, as asked for above
        server = psutil.Process(child.pid)
        chance = np.random.default_rng(0)
        with replay.Client(child.stdout.readline().strip()) as client:
            size, empty = 0, server.memory_info().rss
            for goal in sizes(most):
                start = time.perf_counter()
                inserted = goal - size
                while size < goal:
                    count = min(CHUNK, goal - size)
                    data = {"x": chance.random((count, FLOATS), np.float32)}
                    client.insert_batch("t", data, chance.random(count) + 0.01)
                    size += count
                insert_us = (time.perf_counter() - start) / inserted * 1e6
                keys = client.sample_batch("t", BATCH).keys
                found.append(
                    {
                        "items": size,
                        "sample256_us": median_us(lambda: client.sample_batch("t", BATCH)),
                        "mutate256_us": median_us(
                            lambda keys=keys: client.mutate_priorities("t", (keys, chance.random(BATCH) + 0.01))
                        ),
                        "insert_us": insert_us,
                        "bytes_per_item": (server.memory_info().rss - empty) / size - 4 * FLOATS,
                    }
                )
                for metric, value in found[-1].items():
                    if metric != "items":
                        record = {"metric": f"replay.{metric}", "value": round(value, 2), "of": kind, "items": size}
                        print(json.dumps(record), flush=True)
        child.stdin.close()
    return found


def sizes(most: int) -> list[int]:
    """1000, 3162, 10 000, … up to ``most``."""
    goals = [int(1000 * 10 ** (step / 2)) for step in range(20)]
    return [goal for goal in goals if goal < most] + [most]


def draw(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Both tables, over their size."""
    import matplotlib as mpl  # noqa: PLC0415 - only needed here

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for kind, found in curves.items():
        items = [one["items"] for one in found]
        left.semilogx(items, [one["sample256_us"] for one in found], marker=".", label=f"sample 256, {kind}")
        left.semilogx(
            items,
            [one["mutate256_us"] for one in found],
            marker=".",
            linestyle="--",
            label=f"set 256, {kind}",
        )
        right.semilogx(items, [one["bytes_per_item"] for one in found], marker=".", label=kind)
    left.set(title="One batch, from another process", xlabel="items in the table", ylabel="median in microseconds")
    right.set(title="Memory beyond the data", xlabel="items in the table", ylabel="bytes an item")
    right.set_ylim(0, 400)
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.3)
        axes.legend(frameon=False)
    left.set_ylim(bottom=0)
    figure.savefig(path, dpi=130)
    print(f"wrote {path}", file=sys.stderr)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000, help="how large the tables grow")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--serve", choices=("uniform", "prioritized"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    curves = {kind: measure(kind, options.items) for kind in ("uniform", "prioritized")}
    if options.plot:
        draw(curves, options.plot)


if __name__ == "__main__":
    main()
