"""Items inserted and sampled per second, server and client in processes of their own; JSON lines of ``replay.*``.

replay.insert_400B_per_s, replay.insert_40kB_per_s: items of one float32 step through a trajectory writer, flushed at
    the end, into an empty table (400 bytes) and into one that was emptied (40 kB, memory that was never used before).
replay.sample256_400B_items_per_s, replay.sample256_40kB_items_per_s: items of uniform batches of 256, some of them on
    their way while one is taken, as the peer's script has them.
replay.insert_40kB_steady_per_s: into a table that is full, so that the oldest item goes with each insert: how a replay
    buffer spends its life.

``--lane grpc`` forces that lane, as between hosts. ``--compare DIR --peers VENVS`` runs DIR/replay_reverb.py and
peers/replay_steady.py, which measure the same with Reverb (installed in VENVS/launchpad), and this script in turn, and
prints medians and ratios.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from compare import add_arguments, emit, in_turn, parse, run

RUN_TIMEOUT_S = 300.0
BATCH = 256
IN_FLIGHT = 1024  # the peer has 512 in flight, and two batches prefetched
BATCHES = 60
LARGE_COUNT = 3_000  # inserts of 40 kB
FULL_ITEMS = 5_000  # of the table that is full
FILLED_TIMES = 3  # before it is measured


def serve() -> None:
    """Be the server, until standard input ends."""
    from kourou import replay  # noqa: PLC0415 - the comparison must not pay for it

    limiter = replay.rate_limiters.MinSize(1)
    tables = [
        replay.Table(name, replay.selectors.Uniform(), replay.selectors.Fifo(), items, limiter)
        for name, items in (("t", 1_000_000), ("full", FULL_ITEMS))
    ]
    with replay.Server(tables) as server:
        print(server.address, flush=True)
        sys.stdin.read()


def measure(lane: str | None) -> None:
    """Start a server, insert and sample."""
    import numpy as np  # noqa: PLC0415 - as above

    from kourou import replay  # noqa: PLC0415 - as above

    command = [sys.executable, __file__, "--serve"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdin is not None  # noqa: PT018 - pipes, as asked for above
    try:
        with replay.Client(child.stdout.readline().strip(), lane=lane) as client:
            generator = np.random.default_rng(0)
            for label, floats, count in (("400B", 100, 10_000), ("40kB", 10_000, LARGE_COUNT)):
                step = generator.random(floats, np.float32)
                with client.trajectory_writer(num_keep_alive_refs=1) as writer:
                    emit(f"replay.insert_{label}_per_s", count / insert(writer, "t", step, count), digits=3)
                with client.sampler("t", BATCH, max_in_flight=IN_FLIGHT) as batches:
                    for _ in range(5):
                        assert next(batches).data["o"].shape == (BATCH, 1, floats)
                    start = time.perf_counter()
                    for _ in range(BATCHES):
                        _ = next(batches).data
                    rate = BATCHES * BATCH / (time.perf_counter() - start)
                    emit(f"replay.sample256_{label}_items_per_s", rate, digits=3)
                client.reset("t")
            with client.trajectory_writer(num_keep_alive_refs=1) as writer:
                step = generator.random(10_000, np.float32)
                insert(writer, "full", step, FILLED_TIMES * FULL_ITEMS)
                seconds = insert(writer, "full", step, LARGE_COUNT)
                emit("replay.insert_40kB_steady_per_s", LARGE_COUNT / seconds, digits=3)
    finally:
        child.stdin.close()
        child.wait(RUN_TIMEOUT_S)


def insert(writer: Any, table: str, step: Any, count: int) -> float:
    """Insert items of one step each; seconds until the server has all of them."""
    start = time.perf_counter()
    for _ in range(count):
        writer.append({"o": step})
        writer.create_item(table, 1.0, {"o": writer.history["o"][-1:]})
    writer.flush()
    return time.perf_counter() - start


def compare(rounds: int, lane: str | None, scripts: Path, environments: Path) -> None:
    """Run the peer and kourou in turn."""
    python = environments / "launchpad" / "bin" / "python"
    peer = [python, scripts / "replay_reverb.py"]
    steady = [python, Path(__file__).parent / "peers" / "replay_steady.py", str(FULL_ITEMS)]
    own = [sys.executable, __file__, *(["--lane", lane] if lane else [])]
    in_turn(
        "reverb",
        lambda: run(peer, timeout_s=RUN_TIMEOUT_S) | run(steady, timeout_s=RUN_TIMEOUT_S),
        lambda: run(own, timeout_s=RUN_TIMEOUT_S),
        rounds,
        digits=3,
    )


def main() -> None:
    """Measure, or compare, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lane", choices=["local", "grpc"], help="the lane to force (default: the fastest)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    add_arguments(parser)
    args = parse(parser)
    if args.serve:
        serve()
    elif args.compare:
        compare(args.rounds, args.lane, args.compare, args.peers)
    else:
        measure(args.lane)


if __name__ == "__main__":
    main()
