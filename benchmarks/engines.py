"""Hosts of engines; JSON lines of ``engines.*`` metrics.

engines.64_cpu_s, engines.64_up_s: the launcher's own processor time, and the time, from asking a local engine for 64
hosts until the agents of all have called and answered. engines.64_threads: the launcher's threads then, and with 4.
engines.slurm_*: where SLURM_CONF names a cluster: a bare srun of three tasks; from ``lp.launch`` to the first answered
call on this host (``local_launch``) and on three hosts of Slurm; and from ``lp.submit`` to that.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from compare import emit

import kourou as lp
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.host_agent.loop import LoopThread
from kourou.runtime.launchers.engines.reach import EngineReach
from kourou.runtime.launchers.hosts.host import RemoteHost
from kourou.runtime.plan.compile import compile_program
from kourou.testing.engines import LocalHosts

HOSTS = 64
POLL_S = 0.01
PATIENCE_S = 300.0


class Nobody:
    """Told of hosts, and interested in none."""

    def on_host_message(self, host: RemoteHost, kind: str, *arguments: object) -> None:
        """A host says something."""

    def on_host_lost(self, host: RemoteHost, error: Exception) -> None:
        """A host is lost."""


def measure_agents(count: int) -> int:
    """Have so many agents call; the launcher's threads when all are there."""
    program = lp.Program("agents")
    program.add_node(lp.PyNode(time.sleep, 0), label="nobody")
    plan = compile_program(program, LocalHosts(nodes=count, connect_timeout_s=PATIENCE_S))
    with tempfile.TemporaryDirectory() as folder:
        begun, spent = time.monotonic(), time.process_time()
        order = DialOrder(token=secrets.token_hex(8), silence_s=15)
        reach = EngineReach(plan, order, folder=Path(folder), authority=Authority(), coordinator=("127.0.0.1", 1))
        loop = LoopThread("kourou-tunnel")
        reach.allocate()
        hosts = [
            RemoteHost(
                host.name,
                partial(reach.connect, host),
                Nobody(),
                coordinator=(loop, ("127.0.0.1", 1)),
            )
            for host in plan.hosts.all  # type: ignore[union-attr] # it has
        ]
        for host in hosts:
            host.await_info()
        up_s, cpu_s, threads = time.monotonic() - begun, time.process_time() - spent, threading.active_count()
        emit(f"engines.{count}_up_s", up_s)
        emit(f"engines.{count}_cpu_s", cpu_s)
        emit(f"engines.{count}_threads", threads)
        reach.close(hosts)
        loop.close()
        reach.release()
    return threads


class Server:
    """What is called."""

    def answer(self) -> int:
        """Itself."""
        return 42


def call_once(server: Server, mark: str) -> None:
    """A node: the first call, and the end."""
    server.answer()
    Path(mark).write_text(repr(time.time()), "utf-8")
    lp.stop()


def wait_for_idle_hosts() -> None:
    """Slurm takes seconds to be done with a job; the next one is not to wait for that."""
    command = [str(shutil.which("squeue")), "--noheader"]
    while subprocess.run(command, check=True, capture_output=True).stdout:
        time.sleep(POLL_S)


def measure_slurm(folder: str) -> None:
    """A bare srun, an interactive program, a batch job."""
    begun = time.time()
    subprocess.run([str(shutil.which("srun")), "--nodes=3", "--ntasks=3", "true"], check=True, capture_output=True)
    emit("engines.slurm_srun_s", time.time() - begun)

    def program(mark: Path) -> lp.Program:
        made = lp.Program("benchmark")
        server = made.add_node(lp.CourierNode(Server), label="server")
        made.add_node(lp.PyNode(call_once, server, str(mark)), label="client")
        return made

    begun, mark = time.time(), Path(folder, "local")
    lp.launch(program(mark), "local_mp", terminal="output_to_files").wait()
    emit("engines.local_launch_s", float(mark.read_text("utf-8")) - begun)
    slurm, where = lp.Slurm(nodes=3), {"server": "a", "client": "b"}
    wait_for_idle_hosts()
    begun, mark = time.time(), Path(folder, "launched")
    lp.launch(program(mark), slurm, placement=where, terminal="output_to_files").wait()
    emit("engines.slurm_launch_s", float(mark.read_text("utf-8")) - begun)
    wait_for_idle_hosts()
    begun, mark = time.time(), Path(folder, "submitted")
    lp.submit(program(mark), slurm, placement=where)
    while not mark.exists() and time.time() - begun < PATIENCE_S:
        time.sleep(POLL_S)
    emit("engines.slurm_submit_s", float(mark.read_text("utf-8")) - begun)


def main() -> None:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="kourou-benchmark-") as folder:
        os.environ["KOUROU_RUNS_DIR"] = folder
        few, many = measure_agents(4), measure_agents(HOSTS)
        if few != many:
            print(f"the launcher's threads depend on the number of hosts: {few}, {many}", file=sys.stderr)
        if shutil.which("srun") and os.environ.get("SLURM_CONF"):
            measure_slurm(folder)


if __name__ == "__main__":
    main()
