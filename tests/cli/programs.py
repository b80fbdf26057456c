"""Programs that the commands are tried on; loaded by path, as a user's script is."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import kourou as lp


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: float


class Server:
    def __init__(self) -> None:
        self._total = 0

    def add(self, amount: int, times: int = 1) -> int:
        self._total += amount * times
        return self._total

    def point(self, x: int) -> Point:
        return Point(x, 0.5)

    def count(self, to: int) -> Iterator[int]:
        yield from range(to)

    def fail(self) -> None:
        raise ValueError("no such thing")


def call_for_ever(server: lp.CourierClient, index: int) -> None:
    print(f"client {index} begins")
    while not lp.wait_for_stop(0.05):
        server.add(0)


def make_endless(clients: int = 2) -> lp.Program:
    program = lp.Program("endless")
    server = program.add_node(lp.CourierNode(Server), label="server")
    with program.group("client"):
        for index in range(clients):
            program.add_node(lp.PyNode(call_for_ever, server, index))
    return program


def make_spread() -> tuple[lp.Program, dict[str, Any]]:
    """Each node on a host of its own."""
    return make_endless(), {"placement": {"server": "main", "client": ["one", "two"]}}


def make_short(word: str = "hello") -> lp.Program:
    program = lp.Program("short")
    program.add_node(lp.PyNode(print, word), label="speaker")
    return program


MADE = make_short()


def fail() -> None:
    print("the last words")
    raise RuntimeError("the disk is on fire")


def make_failing() -> lp.Program:
    program = lp.Program("failing")
    program.add_node(lp.PyNode(fail), label="arsonist")
    return program


def make_nothing() -> None:
    """Returns no program."""


def die_once() -> None:
    print(f"attempt {lp.get_context().attempt}")
    if lp.get_context().attempt == 1:
        raise RuntimeError("not yet")


def make_flaky() -> lp.Program:
    program = lp.Program("flaky")
    with program.group("phoenix", on_failure=lp.Restart(max_times=1)):
        program.add_node(lp.PyNode(die_once))
    return program


def ignore_the_stop() -> None:
    while True:
        try:
            time.sleep(60)
        except lp.errors.StopRequested:
            print("no")


def make_stubborn() -> tuple[lp.Program, dict[str, Any]]:
    program = lp.Program("stubborn")
    program.add_node(lp.PyNode(ignore_the_stop), label="mule")
    return program, {"stop_timeline": lp.StopTimeline(ask_s=600.0)}
