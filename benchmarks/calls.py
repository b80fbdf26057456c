"""Awaited calls against blocking ones, and batched inference when callers leave, as JSON lines.

    python benchmarks/calls.py
    python benchmarks/calls.py --lane grpc

Metrics: calls.blocking_p50_us and calls.awaited_p50_us (one call after the other, in turn), the same of an ``async``
handler (calls.blocking_async_p50_us, calls.awaited_async_p50_us), calls.gather64_per_s (64 awaited calls at once),
calls.batched_full_per_s and calls.batched_less_one_per_s (8 processes that ask a model for one action after the other,
by batches of 8, and 7 of them; the model takes 0, 2 and 10 ms for a batch, whatever its size).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from rpc import TOKEN_VARIABLE, emit

from kourou import aio, courier
from kourou.courier import Client, Server, batched_handler, new_token

ROUNDS = 7
CALLS = 1_000
WINDOW = 64
CALLERS = 8
SECONDS = 0.5
MODEL_MS = (0, 2, 10)


class Model:
    """What is called."""

    def __init__(self) -> None:
        for milliseconds in MODEL_MS:
            setattr(self, f"act{milliseconds}", batched_handler(batch_size=CALLERS)(self._forward(milliseconds)))

    def null(self) -> None:
        """Nothing."""

    async def null_async(self) -> None:
        """Nothing, on the event loop."""

    @staticmethod
    def _forward(milliseconds: int) -> Any:
        def act(observation: Any) -> Any:
            time.sleep(milliseconds / 1e3)
            return observation

        return act


def serve() -> None:
    """The server's process: prints its address, and ends with its standard input."""
    with Server(token=os.environ[TOKEN_VARIABLE]) as server:
        server.bind_object(Model())
        print(server.address, flush=True)
        sys.stdin.read()


def ask(address: str, lane: str) -> None:
    """One caller's process: for each method that it reads, calls it for some time and prints how often."""
    client: Any = Client(address, lane=lane, token=os.environ[TOKEN_VARIABLE])
    client.null()
    for line in sys.stdin:
        act, calls = getattr(client, line.strip()), 0
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            act(calls)
            calls += 1
        print(calls, flush=True)
    courier.close(client)


def child(token: str, *words: str) -> subprocess.Popen[str]:
    """This file in another process."""
    environment = {**os.environ, TOKEN_VARIABLE: token}
    command = [sys.executable, __file__, *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def batched(address: str, token: str, lane: str) -> None:
    """All callers, and all but one, in turn."""
    callers = [child(token, "--ask", address, "--lane", lane) for _ in range(CALLERS)]

    def rate(count: int, method: str) -> float:
        for caller in callers[:count]:
            assert caller.stdin is not None
            print(method, file=caller.stdin, flush=True)
        return sum(int(caller.stdout.readline()) for caller in callers[:count] if caller.stdout is not None) / SECONDS

    for milliseconds in MODEL_MS:
        rate(CALLERS, f"act{milliseconds}")  # they are all there
        rates: dict[int, list[float]] = {CALLERS: [], CALLERS - 1: []}
        for count in [CALLERS, CALLERS - 1] * ROUNDS:
            rates[count].append(rate(count, f"act{milliseconds}"))
        full, less = (statistics.median(rates[count]) for count in (CALLERS, CALLERS - 1))
        emit("calls.batched_full_per_s", full, lane=lane, model_ms=milliseconds)
        ratio = less / full
        emit("calls.batched_less_one_per_s", less, lane=lane, model_ms=milliseconds, ratio=ratio, met=ratio >= 0.8)
    for caller in callers:
        caller.communicate()


async def awaited(client: Any, method: str) -> float:
    """The median of calls that are awaited, in us."""
    call, times = getattr(client, method), []
    for _ in range(CALLS):
        start = time.perf_counter()
        await call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def blocking(client: Any, method: str) -> float:
    """The same of calls that block."""
    call, times = getattr(client, method), []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


async def gathered(client: Any) -> float:
    """Calls per second, so many at once."""
    start = time.perf_counter()
    for _ in range(CALLS // WINDOW):
        await asyncio.gather(*(client.null() for _ in range(WINDOW)))
    return CALLS // WINDOW * WINDOW / (time.perf_counter() - start)


def alone(address: str, token: str, lane: str) -> None:
    """Both ways of calling, in turn."""
    with Client(address, lane=lane, token=token) as client:
        blocking(client, "null")
        for method, kind in (("null", ""), ("null_async", "_async")):
            rounds = [
                (blocking(client, method), asyncio.run(awaited(aio.Client(client), method))) for _ in range(ROUNDS)
            ]
            blocks, awaits = (min(times) for times in zip(*rounds, strict=True))
            emit(f"calls.blocking{kind}_p50_us", blocks, lane=lane)
            emit(f"calls.awaited{kind}_p50_us", awaits, lane=lane, ratio=awaits / blocks)
        rates = [asyncio.run(gathered(aio.Client(client))) for _ in range(ROUNDS)]
        emit("calls.gather64_per_s", max(rates), lane=lane)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lane", choices=("local", "grpc"), default="local")
    for hidden in ("--serve", "--ask"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    elif options.ask:
        ask(options.ask, options.lane)
    else:
        token = new_token()
        with child(token, "--serve", "model") as server:
            assert server.stdout is not None
            assert server.stdin is not None
            address = server.stdout.readline().strip()
            alone(address, token, options.lane)
            batched(address, token, options.lane)
            server.stdin.close()


if __name__ == "__main__":
    main()
