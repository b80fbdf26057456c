"""Looking at what runs on hosts: they share one table of processes."""

from __future__ import annotations

from typing import Any

import psutil

from kourou.courier import Client
from kourou.errors import RpcError
from polling import until

ANSWER_S = 30.0


def agents() -> list[psutil.Process]:
    """All agents of programs, on whatever host."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if "kourou.runtime.host_agent" in " ".join(words) and "python" in words[0]:
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
            answer = client.with_options(timeout_s=5).where()
        except RpcError:
            return None
        return answer if answer[2] == attempt else None

    answer: tuple[str, int, int] = until(ask, ANSWER_S)
    return answer
