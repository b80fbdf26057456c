"""The dashboard of a run with many nodes, as JSON lines: real coordinator, real answers; the nodes are simulated.

Two processes stand for all nodes: each serves, with kourou's server, what many nodes are asked. ``kourou ui`` runs as a
process of its own. Metrics, for N nodes: dashboard.N_PAGE_p95_ms, of requests every 0.2 s while a page is open;
dashboard.N_first_ms, of the first one; dashboard.N_idle_cpu and dashboard.N_watched_cpu, in percent of a core: with no
page open, and with one that is sent whatever changes; dashboard.N_rss_mib.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from kourou import courier
from kourou.runtime.context.context import Binding, NodeContext
from kourou.runtime.control.coordinator import Coordinator
from kourou.runtime.control.service import CoordinatorServer
from kourou.runtime.files.run_folder import PLAN_FILE, RunFolder
from kourou.runtime.files.run_info import INFO_FILE, RunInfo
from kourou.runtime.model.records import NodeRecord, NodeState
from kourou.runtime.model.status import RunState, RunStatus
from kourou.runtime.node_process import metering

TOKEN = "benchmark"  # noqa: S105 - guards nothing
ACTORS_PER_LEARNER = 100


def play() -> None:
    """Stand for many nodes until standard input ends."""
    nobody: Any = None  # what only a node that runs has is not asked for
    binding = Binding(run_id="", control=nobody, token=TOKEN)
    context = NodeContext(
        name="", program="", run_id="", launch_type="", attempt=1, binding=binding, stop=nobody, report_child=nobody
    )
    server = courier.Server("player", token=TOKEN)
    metering.install(server, context)
    server.start()
    print(server.endpoint.to_json(), flush=True)
    sys.stdin.read()
    server.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--play", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play:
        play()
        return
    with tempfile.TemporaryDirectory() as folder, simulated(Path(folder), arguments.nodes) as run_id:
        for name, value in measure(Path(folder), run_id, arguments.seconds).items():
            print(json.dumps({"metric": f"dashboard.{arguments.nodes}_{name}", "value": round(value, 2)}), flush=True)


@contextlib.contextmanager
def simulated(runs: Path, count: int) -> Iterator[str]:
    """A run of so many nodes, as its folder and its coordinator tell of it."""
    names = [f"learner/{index}" for index in range(max(1, count // ACTORS_PER_LEARNER))]
    names += [f"actor/{index}" for index in range(count - len(names))]
    with contextlib.ExitStack() as stack:
        players = [stack.enter_context(_player()) for _ in range(2)]
        endpoints = [player.stdout.readline().strip() for player in players if player.stdout]
        assert all(endpoints)
        known: dict[str, Any] = {
            "state": NodeState.READY,
            "host": "elsewhere",
            "pid": 1,
            "attempt": 1,
            "started_at": time.time(),
        }
        records = [NodeRecord(name=name, endpoint=endpoints[at % 2], **known) for at, name in enumerate(names)]
        coordinator = Coordinator(records, on_change=lambda _: None, tell_director=lambda _: None)
        folder = RunFolder("many-20261128-120000-abcdef", runs)
        facts: dict[str, Any] = {
            "run_id": folder.run_id,
            "program": "many",
            "launch_type": "local_mp",
            "started_at": time.time(),
        }
        status = RunStatus(state=RunState.RUNNING, nodes=tuple(records), **facts)
        server = CoordinatorServer(coordinator, token=TOKEN, status=lambda: status)
        stack.callback(server.close)
        folder.write_token(TOKEN)
        more: dict[str, Any] = {"terminal": "", "nodes": count, "coordinator": server.address, "stop_s": 1.0}
        folder.write_json(INFO_FILE, RunInfo.of_this_process(**facts, **more).to_dict())
        learners = [name for name in names if name.startswith("learner")]
        folder.write_json(PLAN_FILE, {"nodes": [_planned(name, learners) for name in names]})
        for record in records:
            for state in ("STARTING", "READY"):
                folder.event("node", name=record.name, state=state, pid=1, attempt=1, will_restart=False)
        yield folder.run_id


def _planned(name: str, learners: list[str]) -> dict[str, object]:
    inputs = [] if name.startswith("learner") else learners
    return {"name": name, "kind": "CourierNode", "inputs": inputs, "parent": None, "process": None, "placement": "own"}


def _player() -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--play"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def measure(runs: Path, run_id: str, seconds: float) -> dict[str, float]:
    """What the dashboard takes, and how soon it answers."""
    command = [sys.executable, "-m", "kourou.cli", "ui", "--port", "0", "--runs-dir", str(runs), "--sweeps", str(runs)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as dashboard:
        try:
            assert dashboard.stderr is not None
            url = dashboard.stderr.readline().rpartition(" ")[2].strip()
            port, token = int(url.split(":")[2].split("/")[0]), url.partition("token=")[2]
            process = psutil.Process(dashboard.pid)
            found = {"first_ms": _request(port, token, f"/api/runs/{run_id}") * 1e3}
            time.sleep(25)  # it lets go of what nobody looks at
            found["idle_cpu"] = _cpu_percent(process, seconds)
            with _viewer(port, token, run_id):
                time.sleep(5)
                found["watched_cpu"] = _cpu_percent(process, seconds)
                pages = {
                    "run": f"runs/{run_id}",
                    "lives": f"runs/{run_id}/lives",
                    "list": "runs",
                    "node": f"runs/{run_id}/nodes/actor/7",
                }
                for name, path in pages.items():
                    found[f"{name}_p95_ms"] = _p95(port, token, f"/api/{path}", seconds) * 1e3
            found["rss_mib"] = process.memory_info().rss / (1 << 20)
        finally:
            dashboard.terminate()
    return found


def _request(port: int, token: str, path: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    begun = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    body = answer.read()
    took_s = time.perf_counter() - begun
    connection.close()
    assert answer.status == 200, body
    return took_s


def _p95(port: int, token: str, path: str, seconds: float) -> float:
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        took.append(_request(port, token, path))
        time.sleep(0.2)
    return statistics.quantiles(took, n=20)[-1]


@contextlib.contextmanager
def _viewer(port: int, token: str, run_id: str) -> Iterator[None]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"/api/runs/{run_id}/events", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()

    def read() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while answer.read(1 << 16):
                pass

    reader = threading.Thread(target=read, name="viewer", daemon=True)
    reader.start()
    yield
    if connection.sock is not None:
        connection.sock.close()


def _cpu_percent(process: psutil.Process, seconds: float) -> float:
    before = process.cpu_times()
    time.sleep(seconds)
    now = process.cpu_times()
    return 100 * (now.user + now.system - before.user - before.system) / seconds


if __name__ == "__main__":
    main()
