"""The time of an echo over payload size, of a system that kourou is compared with: run it by that system's Python.

    PYTHON echo_sizes.py courier SIZE…      Launchpad's Courier; carries bytes, since NumPy arrays make 0.5.2 hang
    PYTHON echo_sizes.py ray SIZE…          a Ray actor; carries NumPy arrays, which arrive read-only
    PYTHON echo_sizes.py portal SIZE…       a portal server; carries NumPy arrays, which arrive read-only
    PYTHON echo_sizes.py monarch SIZE…      a Monarch actor; carries NumPy arrays

Prints one line of JSON for each size: bytes, and the median in microseconds.
"""

import contextlib
import importlib
import json
import os
import socket
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
def server_process(name: str) -> Iterator[str]:
    """The server of ``name`` in another process: its address."""
    command = [sys.executable, __file__, f"serve-{name}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = next(line.strip() for line in server.stdout if line.strip().isdigit())  # some print other lines first
        yield f"localhost:{port}"
        server.kill()


@contextlib.contextmanager
def courier() -> Iterator[Callable[[bytes], object]]:
    """Launchpad's Courier, with the server in another process."""
    peer: Any = importlib.import_module("courier")
    with server_process("courier") as address:
        yield peer.Client(address).echo


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


@contextlib.contextmanager
def portal() -> Iterator[Callable[[bytes], object]]:
    """A portal server in another process."""
    numpy: Any = importlib.import_module("numpy")
    peer: Any = importlib.import_module("portal")
    with server_process("portal") as address:
        client = peer.Client(address)
        yield lambda value: client.echo(numpy.frombuffer(value, numpy.uint8)).result()


def serve_portal() -> None:
    """Print a port that was free a moment ago, then serve there."""
    peer: Any = importlib.import_module("portal")
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    server = peer.Server(port)
    server.bind("echo", lambda value: value)
    print(port, flush=True)
    server.start()


@contextlib.contextmanager
def monarch() -> Iterator[Callable[[bytes], object]]:
    """A Monarch actor in another process."""
    numpy: Any = importlib.import_module("numpy")
    peer: Any = importlib.import_module("monarch.actor")

    class Echo(peer.Actor):  # type: ignore[misc]  # Monarch is installed in its own environment only
        def echo(self, value: object) -> object:
            return value

        echo = peer.endpoint(echo)

    actor = peer.this_host().spawn_procs(per_host={"gpus": 1}).spawn("echo", Echo)
    yield lambda value: actor.echo.call_one(numpy.frombuffer(value, numpy.uint8)).get()


if __name__ == "__main__":
    serving = {"serve-courier": serve_courier, "serve-portal": serve_portal}
    if sys.argv[1] in serving:
        serving[sys.argv[1]]()
    else:
        with {"courier": courier, "ray": ray, "portal": portal, "monarch": monarch}[sys.argv[1]]() as call:
            measure(call, [int(size) for size in sys.argv[2:]])
