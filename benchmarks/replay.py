"""Items inserted and sampled per second, server and client in processes of their own; JSON lines of ``replay.*``.

replay.insert_400B_per_s, replay.insert_40kB_per_s: items of one float32 step through a trajectory writer, flushed at
    the end, into an empty table (400 bytes) and into one that was emptied (40 kB, memory that was never used before).
replay.sample256_400B_items_per_s, replay.sample256_40kB_items_per_s: items of uniform batches of 256, some of them on
    their way while one is taken, as the peer's script has them.

``--lane grpc`` forces that lane, as between hosts. ``--compare DIR --peers VENVS`` runs DIR/replay_reverb.py, which
measures the same with Reverb (installed in VENVS/launchpad), and this script in turn, and prints medians and ratios.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from compare import add_arguments, emit, in_turn, parse, run

RUN_TIMEOUT_S = 300.0
BATCH = 256
IN_FLIGHT = 1024  # the peer has 512 in flight, and two batches prefetched
BATCHES = 60


def serve() -> None:
    """Be the server, until standard input ends."""
    from kourou import replay  # noqa: PLC0415 - the comparison must not pay for it

    limiter = replay.rate_limiters.MinSize(1)
    table = replay.Table("t", replay.selectors.Uniform(), replay.selectors.Fifo(), 1_000_000, limiter)
    with replay.Server([table]) as server:
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
            for label, floats, count in (("400B", 100, 10_000), ("40kB", 10_000, 3_000)):
                step = np.random.default_rng(0).random(floats, np.float32)
                with client.trajectory_writer(num_keep_alive_refs=1) as writer:
                    start = time.perf_counter()
                    for _ in range(count):
                        writer.append({"o": step})
                        writer.create_item("t", 1.0, {"o": writer.history["o"][-1:]})
                    writer.flush()
                    emit(f"replay.insert_{label}_per_s", count / (time.perf_counter() - start), digits=3)
                with client.sampler("t", BATCH, max_in_flight=IN_FLIGHT) as batches:
                    for _ in range(5):
                        assert next(batches).data["o"].shape == (BATCH, 1, floats)
                    start = time.perf_counter()
                    for _ in range(BATCHES):
                        _ = next(batches).data
                    rate = BATCHES * BATCH / (time.perf_counter() - start)
                    emit(f"replay.sample256_{label}_items_per_s", rate, digits=3)
                client.reset("t")
    finally:
        child.stdin.close()
        child.wait(RUN_TIMEOUT_S)


def compare(rounds: int, lane: str | None, scripts: Path, environments: Path) -> None:
    """Run the peer and kourou in turn."""
    peer = [environments / "launchpad" / "bin" / "python", scripts / "replay_reverb.py"]
    own = [sys.executable, __file__, *(["--lane", lane] if lane else [])]
    in_turn(
        "reverb",
        lambda: run(peer, timeout_s=RUN_TIMEOUT_S),
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
