"""The time of an echo over payload size, of a system that kourou is compared with: run it by that system's Python.

    PYTHON echo_sizes.py courier SIZE…      Launchpad's Courier; carries bytes, since NumPy arrays make 0.5.2 hang
    PYTHON echo_sizes.py ray SIZE…          a Ray actor; carries NumPy arrays, which arrive read-only

Prints one line of JSON for each size: bytes, and the median in microseconds.
"""

import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

SECONDS = 0.3


def measure(echo: Callable[[bytes], object], sizes: list[int]) -> None:
    """Echo each size for a while."""
    for size in sizes:
        payload = os.urandom(size)
        times: list[float] = []
        echo(payload)
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end or len(times) < 3:
            start = time.perf_counter()
            echo(payload)
            times.append(time.perf_counter() - start)
        print(json.dumps({"bytes": size, "median_us": statistics.median(times) * 1e6}), flush=True)


@contextlib.contextmanager
def courier() -> Iterator[Callable[[bytes], object]]:
    """Launchpad's Courier, with the server in another process."""
    peer: Any = importlib.import_module("courier")
    command = [sys.executable, __file__, "serve-courier"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        yield peer.Client(f"localhost:{server.stdout.readline().strip()}").echo
        server.kill()


def serve_courier() -> None:
    """Print the port, then serve."""
    peer: Any = importlib.import_module("courier")
    server = peer.Server()
    server.Bind("echo", lambda value: value)
    server.Start()
    print(server.port, flush=True)
    server.Join()


@contextlib.contextmanager
def ray() -> Iterator[Callable[[bytes], object]]:
    """A Ray actor."""
    numpy: Any = importlib.import_module("numpy")
    peer: Any = importlib.import_module("ray")

    class Echo:
        def echo(self, value: object) -> object:
            return value

    peer.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    actor = peer.remote(num_cpus=0)(Echo).remote()
    yield lambda value: peer.get(actor.echo.remote(numpy.frombuffer(value, numpy.uint8)))
    peer.shutdown()


if __name__ == "__main__":
    if sys.argv[1] == "serve-courier":
        serve_courier()
    else:
        with {"courier": courier, "ray": ray}[sys.argv[1]]() as call:
            measure(call, [int(size) for size in sys.argv[2:]])
