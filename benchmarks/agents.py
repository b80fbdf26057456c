"""A launcher of many hosts: what it takes to hold their agents; JSON lines of ``agents.N_*`` metrics.

The launcher's end is what every launcher has (``AgentServer``, TLS and all), in a process of its own for each N; the
agents are played by two processes, which speak their real protocol and answer what they are told.

agents.N_up_s, agents.N_up_cpu_s: until all have called and answered, and the launcher's processor time for it.
agents.N_told_s, agents.N_told_cpu_us: one message to each, until all have answered; the launcher's processor time for
each of them.
agents.N_idle_percent: of a core, while nothing happens but signs of life.
agents.N_kib_an_agent, agents.N_descriptors_an_agent, agents.N_threads: of the launcher.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from compare import emit

from kourou import errors
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.host_agent.dialling import dial
from kourou.runtime.launchers.dialled.server import AgentServer

PLAYERS = 2
SILENCE_S = 15.0  # as engines have it
PATIENCE_S = 120.0
IDLE_S = 10.0
ROUNDS = 5
ENTRY = Path(__file__).stem  # what the players import as their service: this file


class Answering:
    """The service of a played agent."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire

    def handle(self, kind: str, *arguments: Any) -> None:
        """Say the same."""
        self._wire.send(kind, *arguments)

    def pause_output(self, paused: bool) -> None:  # noqa: FBT001 - a callback
        """It prints nothing."""

    def close(self) -> None:
        """It has nothing."""


def serve(wire: Any) -> Answering:
    """What ``DialOrder.entry`` has to have."""
    return Answering(wire)


class Events:
    """Counts answers, of all agents."""

    def __init__(self) -> None:
        self.answers = 0

    def on_message(self, kind: str, *arguments: Any) -> None:
        """An agent said something."""
        del kind, arguments
        self.answers += 1

    def on_lost(self, error: errors.KourouError) -> None:
        """None may be."""
        sys.exit(f"an agent was lost: {error}")

    def on_full(self, full: bool) -> None:  # noqa: FBT001 - a callback
        """There is room."""


async def play(order: str, places: range) -> None:
    """Be the agents of some places."""
    await asyncio.gather(*[dial(order, place) for place in places])


def measure(count: int) -> None:
    """Hold so many agents."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    own, events = psutil.Process(), Events()
    told = DialOrder(token=secrets.token_hex(8), silence_s=SILENCE_S, entry=ENTRY)
    server = AgentServer(told, Authority(), address="127.0.0.1")
    before = own.memory_info().rss, own.num_fds()
    begun, spent = time.monotonic(), time.process_time()
    transports = [server.expect(place, events, PATIENCE_S) for place in range(count)]

    def tell() -> None:
        asked = events.answers + count
        for transport in transports:
            transport.send("hello")
        deadline = time.monotonic() + PATIENCE_S
        while events.answers < asked:
            if time.monotonic() > deadline:
                sys.exit(f"{asked - events.answers} agents have not answered")
            time.sleep(0.001)

    with tempfile.TemporaryDirectory() as folder:
        order = Path(folder, "order.json")
        server.order.write(order)
        players = [
            subprocess.Popen(
                [
                    sys.executable,
                    __file__,
                    "--play",
                    str(order),
                    str(count * i // PLAYERS),
                    str(count * (i + 1) // PLAYERS),
                ]
            )
            for i in range(PLAYERS)
        ]
        tell()
        name = f"agents.{count}"
        emit(f"{name}_up_s", time.monotonic() - begun)
        emit(f"{name}_up_cpu_s", time.process_time() - spent)
        begun, spent = time.monotonic(), time.process_time()
        for _ in range(ROUNDS):
            tell()
        emit(f"{name}_told_s", (time.monotonic() - begun) / ROUNDS)
        emit(f"{name}_told_cpu_us", (time.process_time() - spent) / ROUNDS / count * 1e6, 1)
        spent = time.process_time()
        time.sleep(IDLE_S)
        emit(f"{name}_idle_percent", (time.process_time() - spent) / IDLE_S * 100, 2)
        emit(f"{name}_kib_an_agent", (own.memory_info().rss - before[0]) / 1024 / count, 1)
        emit(f"{name}_descriptors_an_agent", (own.num_fds() - before[1]) / count, 2)
        emit(f"{name}_threads", threading.active_count())
        server.hang_up()
        for player in players:
            player.wait(PATIENCE_S)
        server.close()


def main() -> None:
    """Measure, each number in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[16, 64, 256, 512], metavar="N")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--play", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        order, first, end = options.play
        asyncio.run(play(order, range(int(first), int(end))))
    elif options.measure:
        measure(options.measure)
    else:
        for count in options.hosts:
            subprocess.run([sys.executable, __file__, "--measure", str(count)], check=True, env={**os.environ})


if __name__ == "__main__":
    main()
