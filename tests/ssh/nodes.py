"""What the tests run on hosts; imported there by name."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import kourou as lp
from kourou import courier
from optional import optional

np = optional("numpy")

FOREVER_S = 600


class Server:
    def where(self) -> tuple[str, int, int]:
        return socket.gethostname(), os.getpid(), lp.get_context().attempt

    def echo(self, value: Any) -> Any:
        return value

    def variable(self, name: str) -> str | None:
        return os.environ.get(name)

    def python(self) -> tuple[str, str]:
        return sys.executable, sys.prefix

    def cpus(self) -> set[int]:
        return os.sched_getaffinity(0)

    def fail(self) -> None:
        raise ValueError("the server has had enough")

    def leave(self) -> None:
        os._exit(3)

    def log(self, step: int) -> None:
        lp.log(step, host=socket.gethostname())
        lp.log_image(step, dot=np.zeros((1, 1)))

    def wait(self) -> None:
        time.sleep(FOREVER_S)

    def say(self, words: str) -> None:
        print(words)

    def stop(self) -> None:
        lp.stop()


class Relay:
    def __init__(self, server: Any) -> None:
        self._server = server

    def where(self) -> tuple[str, int, int]:
        answer: tuple[str, int, int] = self._server.where()
        return answer


def greet(*servers: Any) -> None:
    """Tell, line by line, how each server was reached."""
    for server in servers:
        host, _, _ = server.where()
        print(f"{courier.address(server)} on {host} by {courier.lane(server)}")
    lp.stop()


def fail() -> None:
    raise ValueError(f"no luck on {socket.gethostname()}")


def wait() -> None:
    lp.wait_for_stop()


def call_for_ever(server: Any, told: Path) -> None:
    """Write down what becomes of a call that is never answered."""
    server.where()
    (told / "calling").touch()
    try:
        server.wait()
    except lp.errors.RpcError as error:
        (told / "told").write_text(f"{type(error).__name__} {error}", encoding="utf-8")
    lp.wait_for_stop()


def count(server: Any, told: Path) -> None:
    """Call until told to stop, and count the answers in a file."""
    number = 0
    stop: threading.Event = lp.stop_event()
    while not stop.is_set():
        server.where()
        number += 1
        (told / "count").write_text(str(number), encoding="ascii")
        stop.wait(0.05)


def spawn_and_wait() -> None:
    """Have a grandchild in a session of its own, and wait."""
    subprocess.Popen(["sleep", str(FOREVER_S)], start_new_session=True)
    lp.wait_for_stop()


def import_launchpad() -> None:
    """Print whose ``launchpad`` there is."""
    launchpad = importlib.import_module("launchpad.nodes.courier.node")
    print(launchpad.CourierNode.__module__)
