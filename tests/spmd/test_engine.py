"""Launchers on hosts that an engine allocates."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil

from kourou.errors import AgentFailedError, LaunchError
from kourou.spmd import Launcher
from kourou.testing.engines import LocalEngine, LocalHosts
from optional import pytest

pytestmark = [pytest.mark.usefixtures("no_leaks")]

BULK_BYTES = 12_000_000  # more than waits to be sent at once


def answer(data: bytes) -> tuple[str, int, bytes]:
    return os.environ["KOUROU_HOST_NAME"], int(os.environ["RANK"]), data + bytes(1)


def lose_host(mark: str) -> None:
    """The first time, an agent is killed, and all of its host with it."""
    if os.environ["RANK"] == "1" and not Path(mark).exists():
        Path(mark).touch()
        next(p for p in psutil.Process().parents() if "host_agent.dialling" in " ".join(p.cmdline())).kill()
        time.sleep(60)


def launcher(hosts: int, retries: int = 0) -> Launcher:
    engine = LocalHosts(nodes=hosts, lost_after_s=4)
    return Launcher(hostnames=engine, workers_per_host=2, backend=None, retries=retries)


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_runs_use_the_hosts_of_one_allocation_and_bring_back_what_is_large(runs_dir: Path, count: int) -> None:
    with launcher(count) as hosts:
        for size in (1, BULK_BYTES):
            result = hosts.run(answer, bytes(size))
            there = [(f"local-{rank // 2}", rank) for rank in range(2 * count)]
            assert [result.rank(rank)[:2] for rank in range(2 * count)] == there
            assert len(result.index("host0", 1)[2]) == size + 1
        assert len(list(runs_dir.glob("spmd-*/dial.json"))) == 1  # it is kept from one run to the next
    assert not list(runs_dir.glob("spmd-*"))


@pytest.mark.soak
def test_a_host_that_is_lost_is_named_and_the_next_try_gets_one(tmp_path: Path) -> None:
    with launcher(2) as hosts:
        with pytest.raises(AgentFailedError, match="its agent was not heard of for 4 s"):
            hosts.run(lose_host, str(tmp_path / "once"))
        hosts.run(lose_host, str(tmp_path / "once"))
    with launcher(2, retries=1) as hosts:
        hosts.run(lose_host, str(tmp_path / "again"))


def test_what_an_engine_refuses_is_said_in_its_words() -> None:
    with (
        Launcher(hostnames=LocalHosts(refusal="the cluster is closed"), workers_per_host=1, backend=None) as closed,
        pytest.raises(LaunchError, match="the cluster is closed"),
    ):
        closed.run(answer, b"")


@pytest.mark.parametrize("moment", ["why_pending", "start_agents"])
def test_ctrl_c_ends_the_wait_for_hosts_and_gives_them_back(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    # Given an engine whose queue is long, or whose agents are just being started
    engines: list[LocalEngine] = []
    really = getattr(LocalEngine, moment)

    def press(engine: LocalEngine, *arguments: Any) -> Any:
        result = really(engine, *arguments)
        if not engines:
            os.kill(os.getpid(), signal.SIGINT)
        engines.append(engine)
        return result

    monkeypatch.setattr(LocalEngine, moment, press)
    pending = ("the queue is long",) * 1_000 if moment == "why_pending" else ()
    with Launcher(hostnames=LocalHosts(pending=pending), workers_per_host=1, backend=None) as hosts:
        # When, then
        with pytest.raises(KeyboardInterrupt):
            hosts.run(answer, b"")
        assert [agent.returncode for agent in engines[0].agents.values()] == [0] * (moment == "start_agents")
