"""Remote calls: latency, calls per second and bandwidth of each lane, as JSON lines.

    python benchmarks/rpc.py                                   all lanes; the local lane's metrics have the plain names
    python benchmarks/rpc.py --lane grpc                       one lane, under the plain names
    python benchmarks/rpc.py --compare DIR --peers VENVS       in turn with the peers' scripts in DIR (A B A B A B)
    python benchmarks/rpc.py --plot rpc.png                    latency and bandwidth over payload size

Metrics: rpc.sync_p50_us, rpc.sync_p99_us, rpc.sync_per_s (blocking calls without arguments), rpc.futures64_per_s
(windows of 64 futures), rpc.echo_1MiB_gib_s and rpc.echo_64MiB_gib_s (one NumPy array there and back, both ways
counted).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from kourou.courier import Client, Server, new_token

LANES = ("local", "grpc", "inproc")
TOKEN_VARIABLE = "RPC_BENCHMARK_TOKEN"  # noqa: S105 - the name of a variable
PEERS = {"courier": ("rpc_launchpad.py", "launchpad"), "ray": ("rpc_ray.py", "ray"), "grpcio": ("", "")}
ROUNDS = 3
SIZES = [0, *(1 << power for power in range(6, 28, 2))]


class Echo:
    """What is called."""

    def null(self) -> None:
        """Nothing there, nothing back."""

    def echo(self, value: Any) -> Any:
        """The same back."""
        return value


def serve() -> None:
    """The server's process: prints its endpoint, and ends with its standard input."""
    server = Server(token=os.environ[TOKEN_VARIABLE])
    server.bind_object(Echo())
    server.start()
    print(server.address, flush=True)
    sys.stdin.read()
    server.stop()


@contextlib.contextmanager
def client_of(lane: str) -> Iterator[Client]:
    """A client on a lane, and a server in another process (or, for inproc, in this one)."""
    token = new_token()
    if lane == "inproc":
        with Server(token=token) as server:
            server.bind_object(Echo())
            client = Client(server.address, lane=lane, token=token)
            yield client
            client.close()
        return
    environment = {**os.environ, TOKEN_VARIABLE: token}
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        client = Client(child.stdout.readline().strip(), lane=lane, token=token)
        try:
            yield client
        finally:
            client.close()
            child.stdin.close()


def measure(lane: str) -> dict[str, float]:
    """All metrics of one lane."""
    with client_of(lane) as client:
        return {**latency(client), **throughput(client), **bandwidth(client)}


def latency(client: Any, calls: int = 10_000) -> dict[str, float]:
    """Blocking calls, one after the other."""
    for _ in range(1000):
        client.null()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        client.null()
        times.append(time.perf_counter() - start)
    times.sort()
    return {
        "rpc.sync_p50_us": times[len(times) // 2] * 1e6,
        "rpc.sync_p99_us": times[len(times) * 99 // 100] * 1e6,
        "rpc.sync_per_s": len(times) / sum(times),
    }


def throughput(client: Any, calls: int = 32_000, window: int = 64) -> dict[str, float]:
    """Windows of futures."""
    start = time.perf_counter()
    for _ in range(0, calls, window):
        for future in [client.futures.null() for _ in range(window)]:
            future.result()
    return {"rpc.futures64_per_s": calls / (time.perf_counter() - start)}


def bandwidth(client: Any) -> dict[str, float]:
    """Echo of one array, which the receiver may keep and change."""
    found = {}
    for mib, calls in ((1, 200), (64, 6)):
        payload = np.random.default_rng(0).integers(0, 255, mib << 20, np.uint8)
        came = client.echo(payload)
        assert came.flags.writeable
        assert np.array_equal(came, payload)
        for _ in range(3):
            came = client.echo(payload)
        start = time.perf_counter()
        for _ in range(calls):
            client.echo(payload)
        seconds = time.perf_counter() - start
        found[f"rpc.echo_{mib}MiB_gib_s"] = 2 * mib * calls / 1024 / seconds
    return found


def emit(metric: str, value: float, **more: Any) -> None:
    """One line of JSON."""
    print(json.dumps({"metric": metric, "value": round(value, 3), **more}), flush=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lane", choices=LANES)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    for lane in [options.lane] if options.lane else LANES:
        for metric, value in measure(lane).items():
            emit(metric, value, lane=lane)


if __name__ == "__main__":
    main()
