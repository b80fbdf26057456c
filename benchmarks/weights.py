"""Weights on one host: publisher, node and readers are processes of their own; JSON lines of ``weights.*``.

weights.map16_1GiB_over_memcpy: 1 GiB published, and mapped by 16 readers, over one call of ``memcpy``, of one thread,
    for as much into warm memory.
weights.map16_1GiB_over_parallel_copy: the same, over one copy as this project makes it, in one piece by all cores.
weights.poll_us: ``latest(newer_than=…)`` when there is nothing new.
weights.new_version_us: ``latest()`` of a new version of 1 GiB, mapped, with its arrays.
weights.publish_50MB_8_ms: 50 MB from the call of ``publish`` until 8 readers have loaded them into arrays of their own;
    with the suffix ``.broadcast``, from the call of ``lp.broadcast`` until 8 nodes have done the same.
weights.map_50MB_8_ms: the same until they have them, but have not read them.

``--readers``, ``--gib`` and ``--repeat`` make it smaller, for machines that are busy or small; the names do not change.
``--peers VENVS`` runs Ray and TorchRL (in VENVS/ray and VENVS/torchrl) and this script in turn, and prints ratios.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from compare import emit, in_turn, run

WAIT_S = 120.0
PARTS = 16  # arrays that the weights consist of
POLLS = 20_000


def serve(pipe: Connection) -> None:
    """Be the server, until told otherwise."""
    from kourou.weights import Server  # noqa: PLC0415 - only this process needs it

    with Server(keep=2) as server:
        pipe.send(server.address)
        pipe.recv()


def read(pipe: Connection, address: str) -> None:
    """Be a reader: for each version, say when it was mapped; load it, or say how long mapping took, if told so."""
    import numpy as np  # noqa: PLC0415 - as above

    from kourou.weights import Client  # noqa: PLC0415 - as above

    subscriber = Client(address).subscriber()
    pipe.send(subscriber.version)
    last, own = 0, [np.zeros(0)]
    while (name := pipe.recv()) is not None:
        start = time.perf_counter()
        view = subscriber.latest(newer_than=last, timeout_s=WAIT_S)
        assert view is not None
        if name == "load" and len(own) == PARTS:
            view.load_into(own)
        else:
            own = view.weights if name != "load" else [np.zeros_like(array) for array in view.weights]
        took_s = time.perf_counter() - start
        at = time.monotonic()
        last = view.version
        if name != "load":
            own = []
        del view
        pipe.send(took_s if name == "time" else at)


def be_called(pipe: Connection) -> None:
    """Be a node that takes weights as arguments, until told otherwise."""
    import numpy as np  # noqa: PLC0415 - as above

    from kourou import courier  # noqa: PLC0415 - as above

    own = np.zeros(50_000_000 // 8 // PARTS * PARTS)
    server = courier.Server("reader")
    server.bind("load", lambda weights: np.concatenate(weights, out=own) is None)
    server.bind("map", len)
    server.start()
    pipe.send(server.address)
    pipe.recv()
    server.stop()


class Team:
    """The other processes."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        self.readers: list[Connection] = []

    def start_readers(self, count: int) -> str:
        """Start a server and its readers; its address."""
        server = self.start(serve)
        address: str = server.recv()
        self.readers = [self.start(read, address) for _ in range(count)]
        for pipe in self.readers:
            pipe.recv()
        return address

    def start(self, work: Any, *args: Any) -> Connection:
        """Start one."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs, *args))
        process.start()
        self._processes.append(process)
        self._pipes.append(ours)
        return ours

    def close(self) -> None:
        """End them all."""
        for pipe in reversed(self._pipes):
            pipe.send(None)
        for process in self._processes:
            process.join(WAIT_S)


def publish_s(team: Team, publisher: Any, weights: Any, what: str) -> float:
    """Seconds from the call until the last reader has it."""
    for pipe in team.readers:
        pipe.send(what)
    start = time.monotonic()
    assert publisher.publish(weights, wait_s=WAIT_S)
    ends: list[float] = [pipe.recv() for pipe in team.readers]
    return max(ends) - start


def copies_s(size: int, rounds: int) -> tuple[float, float]:
    """One copy into memory that is warm: by one call of ``memcpy``, and as this project copies, in turn."""
    import numpy as np  # noqa: PLC0415 - children must not pay for it

    from kourou.courier.wire.copying import fill  # noqa: PLC0415 - as above

    source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
    calls = (lambda: np.copyto(target, source)), (lambda: fill(target.data, source.data))
    one, parallel = zip(*([_timed(call) for call in calls] for _ in range(rounds)), strict=True)
    return min(one), min(parallel)


def _timed(action: Any) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure_large(gib: float, readers: int, rounds: int) -> None:
    """One large version after another."""
    import numpy as np  # noqa: PLC0415 - as above

    from kourou.weights import Client  # noqa: PLC0415 - as above

    size = int(gib * (1 << 30))
    memcpy_s, parallel_s = copies_s(size, rounds)
    team = Team()
    try:
        client = Client(team.start_readers(readers))
        publisher, subscriber = client.publisher(), client.subscriber()
        weights = [np.full(size // 8 // PARTS, part, np.float64) for part in range(PARTS)]
        times = [publish_s(team, publisher, weights, "map") for _ in range(rounds + 3)][3:]  # keep + 1 slots get warm
        emit("weights.map16_1GiB_over_memcpy", statistics.median(times) / memcpy_s, digits=3)
        emit("weights.map16_1GiB_over_parallel_copy", statistics.median(times) / parallel_s, digits=3)
        taken_us = []
        for _ in range(rounds):
            assert publisher.publish(weights, wait_s=WAIT_S)
            for pipe in team.readers:  # one after the other: it is there already
                pipe.send("time")
                taken_us.append(1e6 * pipe.recv())
        emit("weights.new_version_us", statistics.median(taken_us), digits=3)
        version = subscriber.require().version
        start = time.perf_counter()
        for _ in range(POLLS):
            subscriber.latest(newer_than=version)
        emit("weights.poll_us", 1e6 * (time.perf_counter() - start) / POLLS, digits=3)
    finally:
        team.close()


def measure_small(rounds: int) -> None:
    """50 MB to 8 readers, and to 8 nodes that are called."""
    import numpy as np  # noqa: PLC0415 - as above

    import kourou as lp  # noqa: PLC0415 - as above
    from kourou import courier  # noqa: PLC0415 - as above
    from kourou.weights import Client  # noqa: PLC0415 - as above

    weights = [np.full(50_000_000 // 8 // PARTS, part, np.float64) for part in range(PARTS)]
    team = Team()
    try:
        publisher = Client(team.start_readers(8)).publisher()
        for name, what in (("map", "map"), ("publish", "load")):
            times = [publish_s(team, publisher, weights, what) for _ in range(rounds + 3)][3:]
            emit(f"weights.{name}_50MB_8_ms", 1e3 * statistics.median(times), digits=3)
        group = lp.broadcast([courier.Client(team.start(be_called).recv()) for _ in range(8)])
        for name, call in (("map", group.map), ("publish", group.load)):
            times = [_timed(lambda: call(weights)) for _ in range(rounds + 3)][3:]  # noqa: B023 - called at once
            emit(f"weights.{name}_50MB_8_ms.broadcast", 1e3 * statistics.median(times), digits=3)
    finally:
        team.close()


def compare(environments: Path, rounds: int) -> None:
    """Run the peers and kourou in turn, for 50 MB."""
    script = Path(__file__).parent / "peers" / "weights_readers.py"

    def ours(metrics: tuple[str, ...]) -> dict[str, float]:
        found = run([sys.executable, __file__, "--small"], timeout_s=WAIT_S)
        return {metric: found[metric] for metric in metrics}

    mapped, loaded = "weights.map_50MB_8_ms", "weights.publish_50MB_8_ms"
    for peer, metrics in (("ray", (mapped, loaded)), ("torchrl", (mapped,))):
        command = [environments / peer / "bin" / "python", script, peer]
        in_turn(peer, lambda: run(command, timeout_s=WAIT_S), lambda: ours(metrics), rounds)  # noqa: B023 - called now


def main() -> None:
    """Measure, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1.0, help="size of the large weights (default: 1)")
    parser.add_argument("--readers", type=int, default=16, help="processes that read (default: 16)")
    parser.add_argument("--repeat", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--small", action="store_true", help="only 50 MB to 8 readers")
    parser.add_argument("--peers", type=Path, metavar="VENVS", help="folder with the peers' environments")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs of a comparison (default: 3)")
    args = parser.parse_args()
    if args.peers is not None:
        compare(args.peers, args.rounds)
        return
    if not args.small:
        measure_large(args.gib, args.readers, args.repeat)
    measure_small(3 * args.repeat)


if __name__ == "__main__":
    main()
