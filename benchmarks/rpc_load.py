"""Remote calls under load: many clients, latency at half load, memory over a million calls, as JSON lines.

    python benchmarks/rpc_load.py                       all of it, on the local and the gRPC lane
    python benchmarks/rpc_load.py --lane local --calls 100000

Metrics: rpc.clients1_per_s and rpc.clients8_per_s (windows of 64 futures from one process and from eight, one server),
rpc.half_load_p50_us and rpc.half_load_p99_us (blocking calls at half of the highest rate that blocking calls reach;
a late start counts), rpc.soak_per_s, rpc.soak_client_growth_mib and rpc.soak_server_growth_mib (calls with 0 to 1 MiB
of payload; growth is resident memory at the end over that after a tenth of the calls).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import psutil
from rpc import TOKEN_VARIABLE, Served, client_of, emit, latency, server_process

from kourou import courier
from kourou.courier import Client

SECONDS = 4.0
WINDOW = 64
CLIENTS = 8
PAYLOADS = [0, 100, 10_000, 100_000, 1 << 20]


def windows(client: Any, seconds: float) -> int:
    """Windows of futures for so long; the number of calls."""
    calls = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for future in [client.futures.null() for _ in range(WINDOW)]:
            future.result()
        calls += WINDOW
    return calls


def be_client(address: str, lane: str) -> None:
    """One of several client processes: connects, waits for the start, prints how many calls it made."""
    client = Client(address, lane=lane, token=os.environ[TOKEN_VARIABLE])
    client.null()
    print("ready", flush=True)
    sys.stdin.readline()
    print(windows(client, SECONDS), flush=True)
    courier.close(client)


def together(server: Served, lane: str, count: int) -> float:
    """Calls per second of so many client processes at once."""
    command = [sys.executable, __file__, "--client", server.address, "--lane", lane]
    environment = {**os.environ, TOKEN_VARIABLE: server.token}
    clients = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(count)
    ]
    for client in clients:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
    for client in clients:
        assert client.stdin is not None
        client.stdin.write("go\n")
        client.stdin.flush()
    return sum(int(client.communicate()[0]) for client in clients) / SECONDS


def many_clients(lane: str) -> None:
    """One client process and eight, in turn."""
    with server_process() as server:
        for count in (1, CLIENTS) * 2:
            emit(f"rpc.clients{count}_per_s", together(server, lane, count), lane=lane)


def half_load(lane: str, calls: int = 10_000) -> None:
    """Blocking calls at half of the rate that they can reach."""
    with client_of(lane) as client:
        pause_s = 2 / latency(client)["rpc.sync_per_s"]
        due = time.perf_counter() + pause_s
        times = []
        for _ in range(calls):
            while time.perf_counter() < due:
                pass
            client.null()
            times.append(time.perf_counter() - due)
            due = max(due + pause_s, time.perf_counter())
        times.sort()
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    emit("rpc.half_load_p50_us", p50 * 1e6, lane=lane)
    emit("rpc.half_load_p99_us", p99 * 1e6, lane=lane, ratio_to_p50=round(p99 / p50, 2), target=5, met=p99 <= 5 * p50)


def soak(lane: str, calls: int) -> None:
    """Calls of mixed sizes, in windows; memory of both ends."""
    payloads = [np.ones(size, np.uint8) for size in PAYLOADS]
    with server_process() as server, Client(server.address, lane=lane, token=server.token) as client:
        ends = {"client": psutil.Process(), "server": psutil.Process(server.pid)}
        before: dict[str, int] = {}
        start = time.perf_counter()
        for number in range(calls // WINDOW):
            if number == calls // WINDOW // 10:
                before = {name: end.memory_info().rss for name, end in ends.items()}
            large = client.futures.echo(payloads[number % len(payloads)])
            small = [client.futures.echo(step) for step in range(WINDOW - 1)]
            assert [future.result() for future in small] == list(range(WINDOW - 1))
            assert large.result().size == payloads[number % len(payloads)].size
        emit("rpc.soak_per_s", calls / (time.perf_counter() - start), lane=lane, calls=calls)
        for name, end in ends.items():
            growth = end.memory_info().rss - before[name]
            emit(f"rpc.soak_{name}_growth_mib", growth / 2**20, lane=lane, resident_mib=end.memory_info().rss >> 20)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lane", choices=("local", "grpc"), help="one lane only")
    parser.add_argument("--calls", type=int, default=1_000_000, help="of the soak")
    parser.add_argument("--client", metavar="ADDRESS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        be_client(options.client, options.lane)
        return
    for lane in [options.lane] if options.lane else ("local", "grpc"):
        many_clients(lane)
        half_load(lane)
        soak(lane, options.calls)


if __name__ == "__main__":
    main()
