"""Remote calls: latency, calls per second and bandwidth of each lane, as JSON lines.

    python benchmarks/rpc.py                                   all lanes; the local lane's metrics have the plain names
    python benchmarks/rpc.py --lane grpc                       one lane, under the plain names
    python benchmarks/rpc.py --compare DIR --peers VENVS       in turn with the peers' scripts in DIR (A B A B A B)
    python benchmarks/rpc.py --plot rpc.png --peers VENVS      latency and bandwidth over payload size

Metrics: rpc.sync_p50_us, rpc.sync_p99_us, rpc.sync_per_s (blocking calls without arguments), rpc.futures64_per_s
(windows of 64 futures), rpc.echo_1MiB_gib_s and rpc.echo_64MiB_gib_s (one NumPy array there and back, both ways
counted).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
from compare import run

from kourou.courier import Client, Server, new_token

RUN_TIMEOUT_S = 600.0
LANES = ("local", "grpc", "inproc")
TOKEN_VARIABLE = "RPC_BENCHMARK_TOKEN"  # noqa: S105 - the name of a variable
PEERS = {
    "courier": ("rpc_launchpad.py", "launchpad"),
    "ray": ("rpc_ray.py", "ray"),
    "portal": ("rpc_portal.py", "portal"),
    "monarch": ("rpc_monarch.py", "monarch"),
}
UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
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


def serve_grpcio() -> None:
    """The same with plain gRPC, for comparison: unary methods, bytes, as many threads."""
    server = grpc.server(ThreadPoolExecutor(16), options=UNLIMITED)
    handler: Any = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", {"echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    sys.stdin.read()
    server.stop(None)


class PlainClient:
    """Plain gRPC behind the interface of our client."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, options=UNLIMITED)
        self.call: Any = self.channel.unary_unary("/Echo/echo")
        self.futures = PlainFutures(self)

    def null(self) -> Any:
        """Nothing there, nothing back."""
        return self.call(b"")

    def echo(self, value: Any) -> Any:
        """An array there and back, as bytes."""
        return np.frombuffer(bytearray(self.call(value.tobytes())), np.uint8)

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()


class PlainFutures:
    """The futures of plain gRPC."""

    def __init__(self, client: PlainClient) -> None:
        self.client = client

    def null(self) -> Any:
        """A future."""
        return self.client.call.future(b"")


class Served(NamedTuple):
    """A server in another process."""

    address: str
    token: str
    pid: int


@contextlib.contextmanager
def server_process(kind: str = "kourou") -> Iterator[Served]:
    """A server in a process of its own: kourou's, or one of plain gRPC."""
    token = new_token()
    environment = {**os.environ, TOKEN_VARIABLE: token}
    command = [sys.executable, __file__, "--serve", kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        yield Served(child.stdout.readline().strip(), token, child.pid)
        child.stdin.close()


@contextlib.contextmanager
def client_of(lane: str) -> Iterator[Any]:
    """A client on a lane, and a server in another process (or, for inproc, in this one)."""
    with contextlib.ExitStack() as stack:
        if lane == "inproc":
            server = stack.enter_context(Server(token=new_token()))
            server.bind_object(Echo())
            address, token = server.address, server.token
        else:
            address, token, _ = stack.enter_context(server_process("grpcio" if lane == "grpcio" else "kourou"))
        ours = Client(address, lane=lane, token=token) if lane != "grpcio" else None
        yield stack.enter_context(ours or contextlib.closing(PlainClient(address)))


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


# -- beside others ------------------------------------------------------------------------------------------------


class Contender(NamedTuple):
    """Something to measure, as a command that prints JSON lines."""

    name: str
    command: list[str]


class Target(NamedTuple):
    """What one lane has to reach: its median over the peer's, for ``best`` over the better of Courier and Ray."""

    lane: str
    metric: str
    peer: str
    ratio: float


TARGETS = (
    Target("local", "rpc.sync_p50_us", "courier", 0.5),
    Target("local", "rpc.futures64_per_s", "courier", 4),
    Target("local", "rpc.echo_1MiB_gib_s", "best", 3),
    Target("local", "rpc.echo_64MiB_gib_s", "best", 6),
    Target("grpc", "rpc.futures64_per_s", "courier", 1),
    Target("grpc", "rpc.sync_p50_us", "grpcio", 0.7),
    Target("grpc", "rpc.echo_64MiB_gib_s", "courier", 2),
)


def installed_peers(environments: Path | None) -> dict[str, Path]:
    """The Python of each peer that is installed."""
    found = {}
    for name, (_, environment) in PEERS.items():
        python = environments / environment / "bin" / "python" if environments else None
        if python is not None and python.exists():
            found[name] = python
        else:
            print(f"{name} is not installed in {environments}: left out", file=sys.stderr)
    return found


def contenders(scripts: Path, environments: Path) -> list[Contender]:
    """Ours and those of the peers that are installed."""
    own = [Contender(lane, [sys.executable, __file__, "--lane", lane]) for lane in (*LANES, "grpcio")]
    peers = installed_peers(environments)
    return own + [Contender(name, [str(python), str(scripts / PEERS[name][0])]) for name, python in peers.items()]


def compare(scripts: Path, environments: Path, rounds: int) -> bool:
    """Measure all in turn, A B A B A B, and print medians and ratios. Whether all targets were met."""
    found: dict[str, dict[str, list[float]]] = {}
    everybody = contenders(scripts, environments)
    for _ in range(rounds):
        for name, command in everybody:
            for metric, value in run(command, timeout_s=RUN_TIMEOUT_S).items():
                found.setdefault(name, {}).setdefault(metric, []).append(value)
    medians = {name: {m: statistics.median(v) for m, v in metrics.items()} for name, metrics in found.items()}
    for name, metrics in medians.items():
        for metric, value in metrics.items():
            emit(metric, value, of=name, runs=found[name][metric])
    return all([judge(target, medians) for target in TARGETS])  # noqa: C419 - all are printed, not only the first failure


def judge(target: Target, medians: dict[str, dict[str, float]]) -> bool:
    """Print how one target compares with what was reached."""
    lower_is_better = target.metric.endswith("_us")
    peers = [name for name in ("courier", "ray") if name in medians] if target.peer == "best" else [target.peer]
    values = [medians[peer][target.metric] for peer in peers if target.metric in medians.get(peer, {})]
    if not values:
        print(f"no {target.peer} to compare {target.metric} with", file=sys.stderr)
        return False
    ratio = medians[target.lane][target.metric] / (min(values) if lower_is_better else max(values))
    met = ratio <= target.ratio if lower_is_better else ratio >= target.ratio
    emit(target.metric, ratio, lane=target.lane, ratio_to=target.peer, target=target.ratio, met=met)
    return met


# -- over payload size --------------------------------------------------------------------------------------------


def sweep(client: Any, seconds: float = 0.3) -> list[tuple[int, float]]:
    """The median time of an echo, for each payload size in bytes."""
    found = []
    for size in SIZES:
        payload = np.zeros(size, np.uint8)
        times: list[float] = []
        client.echo(payload)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 3:
            start = time.perf_counter()
            client.echo(payload)
            times.append(time.perf_counter() - start)
        found.append((size, statistics.median(times)))
    return found


def sweep_peer(name: str, python: Path) -> list[tuple[int, float]]:
    """The same of a peer, in its own environment."""
    script = Path(__file__).parent / "peers" / "echo_sizes.py"
    command = [str(python), str(script), name, *map(str, SIZES)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=RUN_TIMEOUT_S).stdout
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [(line["bytes"], line["median_us"] / 1e6) for line in lines]


LABELS = {
    "local": "kourou, local lane",
    "grpc": "kourou, gRPC lane",
    "inproc": "kourou, inproc lane",
    "grpcio": "plain gRPC, unary (bytes)",
    "courier": "Launchpad's Courier (bytes)",
    "ray": "Ray actor (read-only array)",
    "portal": "portal (read-only array)",
    "monarch": "Monarch actor",
}


def plot(path: Path, environments: Path | None) -> None:
    """Latency and bandwidth over payload size, all lanes and the peers, as one picture."""
    import matplotlib as mpl  # noqa: PLC0415 - only needed here

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    curves = {}
    for lane in (*LANES, "grpcio"):
        with client_of(lane) as client:
            curves[lane] = sweep(client)
    for name, python in installed_peers(environments).items():
        curves[name] = sweep_peer(name, python)
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    for name, found in curves.items():
        for size, seconds in found:
            emit("rpc.echo_us", seconds * 1e6, of=name, bytes=size)
        style = {"marker": ".", "label": LABELS[name], "linestyle": "-" if name in LANES else "--"}
        left.loglog([max(size, 32) for size, _ in found], [s * 1e6 for _, s in found], **style)
        large = [(size, s) for size, s in found if size >= 1 << 12]
        right.loglog([size for size, _ in large], [2 * size / s / 2**30 for size, s in large], **style)
    left.set(title="Echo of one array: time", xlabel="payload in bytes", ylabel="median in microseconds")
    right.set(title="… and bandwidth, both ways", xlabel="payload in bytes", ylabel="GiB/s")
    for axes in (left, right):
        axes.grid(visible=True, which="major", alpha=0.3)
    left.legend(frameon=False)
    figure.savefig(path, dpi=130)
    print(f"wrote {path}", file=sys.stderr)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--lane", choices=(*LANES, "grpcio"), help="one lane only; grpcio is plain gRPC, for comparison"
    )
    parser.add_argument("--compare", type=Path, metavar="DIR", help="the folder of the peers' scripts")
    parser.add_argument("--peers", type=Path, metavar="VENVS", help="the folder of the peers' virtual environments")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--serve", choices=("kourou", "grpcio"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve_grpcio() if options.serve == "grpcio" else serve()
    elif options.plot:
        plot(options.plot, options.peers)
    elif options.compare:
        sys.exit(not compare(options.compare, options.peers or options.compare, options.rounds))
    else:
        for lane in [options.lane] if options.lane else LANES:
            for metric, value in measure(lane).items():
                emit(metric, value, lane=lane)


if __name__ == "__main__":
    main()
