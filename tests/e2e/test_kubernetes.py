"""Programs on a fake of a Kubernetes cluster, which takes only what a real one would."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kourou as lp
from cli.commands import kourou, start
from e2e import ape_x
from kourou.cli.control.stop_and_call import stop_run
from kourou.runtime.files.run_folder import ORDER_FILE
from kourou.runtime.launchers.engines.kubectl import JobSetJob
from kourou.runtime.launchers.engines.kubernetes import KubernetesEngine
from kourou.runtime.model.engines import EngineOptions, Shape
from kourou.runtime.model.status import RunState
from kourou.runtime.monitoring.run_search import choose_run
from kourou.testing.contracts.engines import ENGINE_CHECKS, check_a_run
from kourou.testing.kubernetes import FakeCluster, FakePod
from manifests import check_manifest
from optional import pytest
from polling import until

pytestmark = [pytest.mark.needs("namespaces"), pytest.mark.usefixtures("no_leaks")]

WITHIN_S = 60.0
TESTS = Path(__file__).parents[1]
BIG_NODE = {"cpu": 8.0, "memory": 2.0**36}


@contextlib.contextmanager
def cluster_of(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[FakeCluster]:
    with FakeCluster(validate=check_manifest, **options) as cluster:
        monkeypatch.setenv("PATH", cluster.path, prepend=os.pathsep)
        yield cluster


@pytest.fixture(name="cluster")
def _cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    with cluster_of(monkeypatch) as cluster:
        yield cluster


def on_kubernetes(**options: Any) -> lp.Kubernetes:
    """An image that is this host, whose tests are on its path."""
    given = {"image": "here", "python": sys.executable, "tree": None, "lost_after_s": 4.0, **options}
    return lp.Kubernetes(env={"PYTHONPATH": str(TESTS)}, **given)


SHORT = {check_a_run}


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    "check", [pytest.param(check, marks=[] if check in SHORT else [pytest.mark.soak]) for check in ENGINE_CHECKS]
)
def test_kubernetes_keeps_the_contract(check: Callable[[EngineOptions], None]) -> None:
    check(on_kubernetes(nodes=2))


SCRIPT = """
import os
import kourou as lp

class Server:
    def where(self):
        return [os.environ["KOUROU_HOST_NAME"], os.getcwd(), lp.get_context().attempt]

def use(server):
    print("the server is on", server.where()[0], flush=True)
    lp.wait_for_stop()

def make():
    program = lp.Program("served")
    with program.group("server", on_failure=lp.Restart(backoff_s=0.01)):
        server = program.add_node(lp.CourierNode(Server))
    program.add_node(lp.PyNode(use, server), label="user")
    return program, {"placement": {"server": "a", "user": "b"}}
"""


def run(*words: str) -> str:
    """A command of a shell; what it printed."""
    with start(*words) as process:
        out, err = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 0, err
    return out


@pytest.fixture(name="apart")
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """A cluster that has none of this test's files."""
    with cluster_of(monkeypatch, hidden=[tmp_path]) as cluster:
        yield cluster


@pytest.mark.long
def test_a_submitted_program_is_asked_and_stopped_from_a_shell_that_sees_no_folder_of_it(
    apart: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a script in a folder of this host only
    cluster = apart
    (tmp_path / "served_in_pods.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    words = [f"-o{each}" for each in ("image=here", f"python={sys.executable}", "lost_after_s=4")]
    submitted = kourou("submit", "served_in_pods.py:make", "--on", "kubernetes", *words)
    found = choose_run(submitted.out.strip())
    launcher = await_log(cluster, "launcher", "the server is on served-")
    # When the pod of a host is deleted, then what ran there starts again in another one
    (pod,) = (pod for pod in cluster.pods("hosts") if f"the server is on {pod.name}" in launcher.log.read_text())
    cluster.delete_pod(pod.name)
    until(lambda: "restart 1 of" in launcher.log.read_text(), WITHIN_S, "a restart")
    until(lambda: pod.name not in {each.name for each in cluster.pods()}, WITHIN_S, "the end of the pod")
    # When a shell calls it, then its command is carried out beside the launcher
    host, folder, attempt = json.loads(run("call", "-", "server", "where", "--json"))
    assert host != pod.name
    assert (folder, attempt) == ("/run/kourou/work/tree", 2)
    # and when it is stopped, nothing is left but the launcher's log
    assert "finished" in run("stop", found.run_id)
    until(lambda: found.state is RunState.FINISHED, WITHIN_S, "the end of the JobSet")
    until(lambda: [each.phase for each in cluster.pods()] == ["Succeeded"], WITHIN_S, "the end of the hosts")
    assert "the server is on" in run("logs", found.run_id)


def await_log(cluster: FakeCluster, kind: str, words: str) -> FakePod:
    """A pod that has printed this."""
    found: list[FakePod] = []

    def told() -> bool:
        found[:] = [pod for pod in cluster.pods(kind) if pod.log.exists() and words in pod.log.read_text()]
        return bool(found)

    try:
        until(told, WITHIN_S, f"{words!r} in the log of {kind}")
    except AssertionError:
        for pod in cluster.pods():
            print(pod, pod.log.read_text() if pod.log.exists() else "")
        raise
    return found[0]


def stop() -> None:
    lp.stop()


def small() -> lp.Program:
    program = lp.Program("small")
    program.add_node(lp.PyNode(stop), label="worker")
    return program


def test_a_program_that_waits_says_why_and_can_be_cancelled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = {"n1": BIG_NODE, "n2": BIG_NODE}
    with cluster_of(monkeypatch, nodes=nodes, held={"team-a": "quota for cpu exceeded"}) as cluster:
        # Given one for which no node is large enough, and one that Kueue holds
        greedy = choose_run(lp.submit(small(), on_kubernetes(cpus_per_node=64, launcher={"cpu": "64"})))
        held = choose_run(lp.submit(small(), on_kubernetes(queue="team-a")))
        # Then each says so
        until(lambda: "Insufficient cpu" in greedy.status().waits_for, WITHIN_S, "the scheduler's reason")
        assert "0/2 nodes are available: 2 Insufficient cpu." in greedy.pending_reason
        assert held.state is RunState.PENDING
        assert held.pending_reason == "Kueue: quota for cpu exceeded"
        # and nothing of one is left that is cancelled before it began
        for each in (greedy, held):
            stop_run(each, timeout_s=None, as_json=False)
        assert "had not begun" in capsys.readouterr().out
        until(lambda: not cluster.kinds(), WITHIN_S, "that nothing is left")


def test_a_cluster_that_does_not_answer_for_a_while_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given hosts that are waited for, of a cluster whose server is away now and then
    away = tmp_path / "away"
    kubectl = tmp_path / "bin" / "kubectl"
    with cluster_of(monkeypatch, held={"team-a": "quota for cpu exceeded"}) as cluster:
        kubectl.parent.mkdir()
        refusal = 'echo "Unable to connect to the server: i/o timeout" >&2; exit 1'
        kubectl.write_text(f'#!/bin/sh\nif [ -e {away} ]; then {refusal}; fi\nexec {cluster.path}/kubectl "$@"\n')
        kubectl.chmod(0o755)
        monkeypatch.setenv("PATH", str(kubectl.parent), prepend=os.pathsep)
        (tmp_path / ORDER_FILE).write_text("", "ascii")
        (tmp_path / "agents").mkdir()
        engine = KubernetesEngine(on_kubernetes(queue="team-a"), folder=tmp_path / "agents")
        engine.allocate(Shape(hosts=1, cpus=1, gpus=0))
        assert engine.why_pending() == "Kueue: quota for cpu exceeded"
        # When it is away, then that is why they wait, and not the end of it
        away.touch()
        assert engine.granted(0)
        assert "Unable to connect to the server" in engine.why_pending()
        away.unlink()
        assert engine.why_pending() == "Kueue: quota for cpu exceeded"
        # But one that is gone is not waited for
        JobSetJob(cluster.kinds()["jobset"][0]).delete()
        with pytest.raises(lp.errors.LaunchError, match="ended before its pods had called"):
            engine.granted(0)
        engine.release()
        until(lambda: not cluster.kinds(), WITHIN_S, "that nothing is left")


def test_what_a_cluster_refuses_leaves_nothing(cluster: FakeCluster) -> None:
    with pytest.raises(lp.errors.LaunchError, match="The JobSet is invalid"):
        lp.submit(small(), on_kubernetes(launcher={"cpu": "many"}))
    assert cluster.kinds() == {}


def count_on() -> None:
    folder, incarnation = lp.checkpoint_dir(), lp.get_context().incarnation
    (folder / f"{incarnation}").touch()
    print(f"incarnation {incarnation} finds {sorted(path.name for path in folder.iterdir())}")
    if incarnation == 1:
        lp.wait_for_stop()
    else:
        lp.stop()


@pytest.mark.soak
@pytest.mark.parametrize("how", ["evict", "kill"])
def test_a_launcher_whose_pod_is_lost_is_started_again_on_the_same_hosts(cluster: FakeCluster, how: str) -> None:
    # Given
    cluster.make_claim("runs")
    program = lp.Program("counting")
    program.add_node(lp.PyNode(count_on), label="counter")
    found = choose_run(lp.submit(program, on_kubernetes(claim="runs")))
    launcher = await_log(cluster, "launcher", "incarnation 1")
    hosts = [pod.name for pod in cluster.pods("hosts")]
    # When its node is drained, or the out-of-memory killer finds it
    getattr(cluster, how)(launcher.name)
    # Then
    await_log(cluster, "launcher", "incarnation 2 finds ['1', '2']")
    assert [pod.name for pod in cluster.pods("hosts")] == hosts
    until(lambda: found.state is RunState.FINISHED, WITHIN_S, "the end of the run")


@pytest.mark.soak
def test_an_image_that_cannot_run_the_launcher_is_said_to_be_such(cluster: FakeCluster) -> None:
    found = choose_run(lp.submit(small(), on_kubernetes(python="/nothing/python3", restarts=1)))
    until(lambda: found.state is RunState.FAILED, WITHIN_S, "the end of the JobSet")
    assert len(cluster.pods("launcher")) == 2
    assert "its launcher said: /bin/sh: 1: exec: /nothing/python3: not found" in found.status().stop_reason


def fail() -> None:
    raise ValueError("it cannot work")


@pytest.mark.soak
def test_a_program_that_fails_is_not_tried_again(cluster: FakeCluster, capfd: pytest.CaptureFixture[str]) -> None:
    program = lp.Program("failing")
    program.add_node(lp.PyNode(fail), label="worker")
    found = choose_run(lp.submit(program, on_kubernetes()))
    until(lambda: found.state is RunState.FAILED, WITHIN_S, "the end of the JobSet")
    assert len(cluster.pods("launcher")) == 1
    # and what its launcher knew is kept, also when the cluster has forgotten it
    told = run("status", found.run_id)
    assert "failed after" in told
    assert "ValueError: it cannot work" in told
    (node,) = found.status().nodes
    assert node.exit is not None
    assert "ValueError: it cannot work" in node.exit.cause
    assert "ValueError: it cannot work" in run("logs", found.run_id)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_ape_x_goes_on_when_a_pod_is_killed_and_replaced(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given it over three pods
    monkeypatch.syspath_prepend(TESTS.parent)
    folder = cluster.make_claim("runs")
    options = on_kubernetes(claim="runs")
    options = dataclasses.replace(options, env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}"})
    program, said = ape_x.make()
    found = choose_run(lp.submit(program, options, **said))

    def nodes() -> ape_x.Nodes:
        return ape_x.nodes_of(json.loads(run("status", found.run_id, "--json")))

    def lose(pod: str) -> None:
        cluster.delete_pod(pod)
        until(lambda: pod not in {each.name for each in cluster.pods()}, WITHIN_S, "the end of the pod")

    ape_x.check_that_a_lost_host_takes_its_actors_only(folder / "runs" / found.run_id, nodes, lose)
    run("stop", found.run_id)
    until(lambda: found.state is RunState.FINISHED, WITHIN_S, "the end of the JobSet")
