"""Weights on one host: publisher, node and readers are processes of their own; JSON lines of ``weights.*``.

weights.map16_1GiB_over_memcpy: 1 GiB published, and mapped by 16 readers, over one copy of it into warm memory.
weights.poll_us: ``latest(newer_than=…)`` when there is nothing new.
weights.new_version_us: ``latest()`` of a new version of 1 GiB, mapped, with its arrays.
weights.publish_50MB_8_ms: 50 MB from the call of ``publish`` until 8 readers have loaded them into arrays of their own.

``--readers``, ``--gib`` and ``--rounds`` make it smaller, for machines that are busy or small; the names do not change.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from typing import Any

from compare import emit

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
    """Be a reader: for each version, say when it was mapped, and how long that took; load it if told so."""
    import numpy as np  # noqa: PLC0415 - as above

    from kourou.weights import Client  # noqa: PLC0415 - as above

    subscriber = Client(address).subscriber()
    pipe.send(subscriber.version)
    last, own = 0, np.empty(0)
    while (name := pipe.recv()) is not None:
        view = subscriber.latest(newer_than=last, timeout_s=WAIT_S)
        assert view is not None
        arrays = view.weights
        if name == "load":
            if own.size != sum(array.size for array in arrays):
                own = np.zeros(sum(array.size for array in arrays), arrays[0].dtype)
            np.concatenate(arrays, out=own)
        at = time.monotonic()
        last = view.version
        del view, arrays
        pipe.send(at)


class Team:
    """The other processes."""

    def __init__(self, readers: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[Any] = []
        self._server = self._start(serve)
        self.address: str = self._server.recv()
        self.readers = [self._start(read, self.address) for _ in range(readers)]
        for pipe in self.readers:
            pipe.recv()

    def _start(self, work: Any, *args: Any) -> Connection:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs, *args))
        process.start()
        self._processes.append(process)
        return ours

    def close(self) -> None:
        """End them all."""
        for pipe in [*self.readers, self._server]:
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


def memcpy_s(size: int, rounds: int) -> float:
    """One copy into memory that is warm, as this project copies."""
    import numpy as np  # noqa: PLC0415 - children must not pay for it

    from kourou.courier.wire.copying import fill  # noqa: PLC0415 - as above

    source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
    return min(_timed(lambda: fill(target.data, source.data)) for _ in range(rounds))


def _timed(action: Any) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(gib: float, readers: int, rounds: int) -> None:
    """Start the others and measure."""
    import numpy as np  # noqa: PLC0415 - as above

    from kourou.weights import Client  # noqa: PLC0415 - as above

    size = int(gib * (1 << 30))
    copy_s = memcpy_s(size, rounds)
    team = Team(readers)
    try:
        client = Client(team.address)
        publisher, subscriber = client.publisher(), client.subscriber()
        weights = [np.full(size // 8 // PARTS, part, np.float64) for part in range(PARTS)]
        times = [publish_s(team, publisher, weights, "map") for _ in range(rounds + 3)][3:]  # keep + 1 slots get warm
        emit("weights.map16_1GiB_over_memcpy", statistics.median(times) / copy_s, digits=3)
        taken_us, version = [], 0
        for _ in range(rounds):
            publish_s(team, publisher, weights, "map")
            start = time.perf_counter()
            view = subscriber.latest()
            assert view is not None
            assert len(view.weights) == PARTS
            taken_us.append(1e6 * (time.perf_counter() - start))
            version = view.version
            del view
        emit("weights.new_version_us", statistics.median(taken_us), digits=3)
        start = time.perf_counter()
        for _ in range(POLLS):
            subscriber.latest(newer_than=version)
        emit("weights.poll_us", 1e6 * (time.perf_counter() - start) / POLLS, digits=3)
        for pipe in team.readers[8:]:
            pipe.send(None)
        del team.readers[8:]
        small = [np.full(50_000_000 // 8 // PARTS, part, np.float64) for part in range(PARTS)]
        times = [publish_s(team, publisher, small, "load") for _ in range(3 * rounds + 3)][3:]
        emit("weights.publish_50MB_8_ms", 1e3 * statistics.median(times), digits=3)
    finally:
        team.close()


def main() -> None:
    """Measure, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1.0, help="size of the large weights (default: 1)")
    parser.add_argument("--readers", type=int, default=16, help="processes that read (default: 16)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    args = parser.parse_args()
    measure(args.gib, args.readers, args.rounds)


if __name__ == "__main__":
    main()
