"""Looking at what runs on hosts: they share one table of processes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import psutil

from kourou import courier
from kourou.courier import Client
from kourou.errors import RpcError
from polling import WAIT_S, until
from spmd.machines import Machines


def agents() -> list[psutil.Process]:
    """All agents of programs of this session, on whatever host; other sessions may run beside it."""
    own = psutil.Process().children(recursive=True)
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if "kourou.runtime.host_agent.host_service" not in " ".join(words) or "python" not in words[0]:
            continue
        with contextlib.suppress(OSError):
            if process in own or Path(f"/proc/{process.pid}/ns/net").stat().st_ino in Machines.networks:
                found.append(process)
    return found


def agent_of(pid: int) -> psutil.Process:
    """The agent below which a node lives."""
    (agent,) = [process for process in psutil.Process(pid).parents() if process in agents()]
    return agent


def everything_on_hosts() -> list[psutil.Process]:
    """The agents and all that is below them."""
    return [process for agent in agents() for process in (agent, *agent.children(recursive=True))]


def answer_of(client: Client, attempt: int) -> tuple[str, int, int]:
    """Where a server's attempt runs, once that one answers."""

    def ask() -> Any:
        try:
            answer = courier.with_options(client, timeout_s=5).where()
        except RpcError:
            return None
        return answer if answer[2] == attempt else None

    answer: tuple[str, int, int] = until(ask, WAIT_S)
    return answer
