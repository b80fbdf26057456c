"""Programs on a real Ray cluster, whose nodes are raylets on this host."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

import kourou as lp
from cli.commands import kourou, start
from e2e import ape_x
from e2e.served import Server
from kourou.runtime.model.engines import EngineOptions
from kourou.runtime.monitoring.run_search import find_runs
from kourou.runtime.node_environment import COPIED_VARIABLES
from kourou.testing.contracts.engines import ENGINE_CHECKS
from optional import pytest
from polling import marked, until

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray: pip install 'kourou[ray]'"),
    pytest.mark.soak,  # a cluster takes seconds to start
]

WITHIN_S = 60.0
ROOT = Path(__file__).parents[2]
COPIED = (*COPIED_VARIABLES, "KOUROU_CONTRACT")  # the check looks for processes by it
CLUSTER = """
import itertools, json, os, sys
from ray.cluster_utils import Cluster

os.makedirs(os.path.join(os.environ["RAY_TMPDIR"], "ray"))  # Ray writes the address there
node = {"num_cpus": 2, "object_store_memory": 80 << 20, "dashboard_agent_listen_port": 0}
cluster = Cluster(initialize_head=True, head_node_args={**node, "node_name": "head", **json.loads(sys.argv[1])})
nodes = {}
for line in itertools.chain(["add one"], sys.stdin):
    what, name = line.split()
    if what == "add":
        nodes[name] = cluster.add_node(**node, node_name=name)
    else:
        cluster.remove_node(nodes.pop(name), allow_graceful=False)
    print(cluster.address, flush=True)
cluster.shutdown()
"""


class Cluster:
    """A cluster of Ray's, in a process of its own: the nodes ``head`` and ``one``."""

    def __init__(self, folder: str, **head: object) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("KOUROU_", "RAY_"))}
        head = {"include_dashboard": False, "gcs_server_port": 0, **head}
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, json.dumps(head)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**environ, "RAY_TMPDIR": folder, "RAY_JOB_STOP_WAIT_TIME_S": "60"},
        )
        self.address = self._line()

    def tell(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        self._line()

    def close(self) -> None:
        left = psutil.Process(self._process.pid).children(recursive=True)
        with self._process:
            self._process.communicate(timeout=WITHIN_S)
        for process in psutil.wait_procs(left, 10)[1]:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the cluster's process has ended"
        return line


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with cluster_of() as made:
        yield made


@contextlib.contextmanager
def cluster_of(**head: object) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:  # a socket's path is short
        made = Cluster(folder, **head)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(autouse=True)
def _nothing_is_left(cluster: Cluster) -> Iterator[None]:
    del cluster
    yield
    until(lambda: not drivers(), WITHIN_S, "the end of Ray's drivers")


def drivers() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "engines.ray_driver" in " ".join(p.info["cmdline"] or ())]


def ray_on(cluster: Cluster, **options: object) -> lp.Ray:
    return lp.Ray(address=cluster.address, lost_after_s=4, copy_env_vars=COPIED, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("check", ENGINE_CHECKS)
def test_ray_keeps_the_contract(cluster: Cluster, check: Callable[[EngineOptions], None]) -> None:
    check(ray_on(cluster, nodes=2))


def stop() -> None:
    lp.stop()


def alone() -> lp.Program:
    program = lp.Program("alone")
    program.add_node(lp.PyNode(stop), label="worker")
    return program


class Jobs:
    """``ray job`` of a cluster with a dashboard, whose jobs find the tests' modules."""

    def __init__(self, port: int, runs_dir: Path) -> None:
        self._address = f"http://127.0.0.1:{port}"
        paths = [str(Path(path).absolute()) for path in sys.path if path]
        self._env = {"KOUROU_RUNS_DIR": str(runs_dir), "PYTHONPATH": os.pathsep.join(paths)}

    def ask(self, what: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ray.scripts.scripts", "job", what, "--address", self._address, *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=WITHIN_S)

    def call(self, what: str, *words: str) -> str:
        done = self.ask(what, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, name: str, *words: str) -> None:
        env = json.dumps({"env_vars": self._env})
        program = [sys.executable, "-m", "kourou.cli", "run", *words]
        submit = ("submit", "--no-wait", f"--submission-id={name}", f"--runtime-env-json={env}", "--", *program)
        # The dashboard is there before it knows of the agents that start jobs.
        until(lambda: "No available agent" not in (done := self.ask(*submit)).stderr and not done.returncode, WITHIN_S)


@pytest.mark.timeout(240)
def test_a_program_in_a_job_of_rays_is_read_and_stopped_as_any_job(runs_dir: Path) -> None:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    with cluster_of(include_dashboard=True, dashboard_port=port):
        jobs = Jobs(port, runs_dir)
        # Given a job that needs both nodes of the cluster, which it finds by itself
        jobs.submit("kept", "e2e.served:served", "--on", "ray", "-onodes=2", "-ocpus_per_node=2")
        until(lambda: "first answer 3 from" in jobs.call("logs", "kept"), WITHIN_S, "the nodes' output in the job's")
        assert "RUNNING" in jobs.call("status", "kept")
        # When it is stopped, then nothing of it is left
        assert "was stopped" in jobs.call("stop", "kept")
        until(lambda: not drivers() and not marked(runs_dir), WITHIN_S, "the end of its processes")
        assert "interrupted" in {str(run.state) for run in find_runs(runs_dir)}
        # and another one gets all that it had, and ends as its program does
        jobs.submit("next", f"{__name__}:alone", "--on", "ray", "-onodes=2", "-ocpus_per_node=2")
        until(lambda: "'next' succeeded" in jobs.call("status", "next"), WITHIN_S, "the next job's end")


def test_what_ray_cannot_give_is_said_and_comes_with_a_node(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    # Given a program that needs three nodes of their own, of which there are two
    program = lp.Program("wishes")
    program.add_node(lp.PyNode(stop), label="worker")
    with ThreadPoolExecutor(1) as pool:
        launched = pool.submit(lp.launch, program, ray_on(cluster, nodes=3, strategy="STRICT_SPREAD"))
        until(lambda: "waiting for" in caplog.text, WITHIN_S, "a reason")
        # Then it says which cannot be placed, and what is there
        assert "nodes that this Ray cluster does not have: 3 hosts need each CPU 1; its nodes are" in caplog.text
        assert "CPU 2 of 2" in caplog.text
        # and goes on once there is a node for it
        cluster.tell("add two")
        launched.result(WITHIN_S).wait()


def test_a_killed_node_of_ray_restarts_what_was_there_alone(cluster: Cluster) -> None:
    program = lp.Program("losses")
    with program.group("server", on_failure=lp.Restart(backoff_s=0.01)):
        handles = [program.add_node(lp.CourierNode(Server)) for _ in range(3)]
    with lp.launch(program, ray_on(cluster), placement={"server": ["a", "b", "c"]}):
        clients = [handle.dereference() for handle in handles]
        before = [client.where() for client in clients]
        assert {name for name, _, _ in before} == {"head", "one", "two"}
        lost = next(place for place, (name, _, _) in enumerate(before) if name == "two")
        # When
        cluster.tell("kill two")
        # Then
        after: list[tuple[str, int, int]] = []

        def again() -> bool:
            with contextlib.suppress(lp.errors.KourouError):
                after.append(clients[lost].where())
            return bool(after) and after[-1][2] == 2

        until(again, WITHIN_S, "what was lost")
        assert after[-1][0] != "two"
        assert [clients[place].where() for place in range(3) if place != lost] == [
            found for place, found in enumerate(before) if place != lost
        ]


@pytest.mark.timeout(240)
def test_ape_x_goes_on_when_one_of_rays_nodes_dies(cluster: Cluster, runs_dir: Path) -> None:
    # Given it over three of Ray's nodes
    cluster.tell("add three")
    words = ("run", ape_x.MAKER, "--on", "ray", f"-oaddress={cluster.address}", "-ocpus_per_node=2", "-olost_after_s=4")
    with start(*words, cwd=ROOT) as launcher:
        found = until(lambda: find_runs(runs_dir), WITHIN_S, "the run's folder")[0]

        def nodes() -> ape_x.Nodes:
            return ape_x.nodes_of(kourou("status", found.run_id, "--json").json)

        try:
            # When one of them dies, then its actors alone start again, and learning goes on
            kill = lambda name: cluster.tell(f"kill {name}")  # noqa: E731
            ape_x.check_that_a_lost_host_takes_its_actors_only(found.path, nodes, kill, spared="head")
            # and Ctrl-C ends it
            launcher.send_signal(signal.SIGINT)
            assert launcher.wait(WITHIN_S) == 130
        finally:
            launcher.kill()
            print(*launcher.communicate())
