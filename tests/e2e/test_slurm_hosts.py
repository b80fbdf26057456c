"""Programs on a Slurm whose nodes are hosts of their own: what follows when one dies, or Slurm takes them away."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil

import kourou as lp
from cli.commands import kourou
from e2e import ape_x
from e2e.slurm_jobs import WITHIN_S, begin_now, emptied, queue, reach_the_limit
from experiments.slurm_cluster import slurm_cluster
from kourou import replay as kr
from kourou.runtime.files.run_info import RunInfo
from kourou.runtime.model.status import RunState
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.remote_run import RemoteRun
from kourou.runtime.monitoring.run_search import choose_run
from optional import pytest
from polling import all_gone, until
from spmd.machines import Machines

pytestmark = [
    pytest.mark.needs("slurm"),
    pytest.mark.needs("hosts"),
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.timeout(240),
]

ROOT = Path(__file__).parents[2]
FAST_STOP = lp.StopTimeline(ask_s=1, interrupt_s=1, terminate_s=1)
ITEMS = 40


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with tempfile.TemporaryDirectory(prefix="kourou-machines-") as folder, Machines(Path(folder) / "m").up() as three:
        yield three


@pytest.fixture(scope="module")
def cluster(machines: Machines) -> Iterator[Path]:
    with (
        tempfile.TemporaryDirectory(prefix="kourou-slurm-") as folder,
        slurm_cluster(Path(folder) / "s", machines) as config,
    ):
        yield config


@pytest.fixture(autouse=True)
def _slurm(cluster: Path, machines: Machines, runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SLURM_CONF", str(cluster))
    monkeypatch.setattr(RunInfo, "here", False)  # they have one table of processes with this host, and another loopback
    with emptied(runs_dir):
        yield
    until(lambda: not of_programs(machines), WITHIN_S, "the end of all programs' processes on the hosts")


def of_programs(machines: Machines) -> list[psutil.Process]:
    """Whatever runs on the hosts beside Slurm's and ssh's daemons."""
    return [each for name in machines.names for each in machines.processes(name) if is_ours(each)]


def is_ours(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE and process.name() not in {"slurmd", "sshd"}
    return False


class Server:
    def where(self) -> tuple[str, int]:
        return os.environ["SLURMD_NODENAME"], lp.get_context().attempt


def three_servers() -> lp.Program:
    program = lp.Program("spread")
    with program.group("server", on_failure=lp.Restart(backoff_s=0.01)):
        for _ in range(3):
            program.add_node(lp.CourierNode(Server))
    return program


def attempts(found: FoundRun) -> list[int]:
    with RemoteRun(found) as remote:
        return [node.attempt for node in remote.status().nodes]


def ready(found: FoundRun) -> int:
    try:
        with RemoteRun(found) as remote:
            return sum(str(node.state) == "READY" for node in remote.status().nodes)
    except lp.errors.KourouError:
        return 0


def tables() -> list[kr.Table]:
    return [kr.Table("t", kr.selectors.Uniform(1), kr.selectors.Fifo(), 1000, kr.rate_limiters.MinSize(1))]


def checkpointer() -> kr.Checkpointer:
    return kr.Checkpointer(lp.checkpoint_dir())


def fill_or_look(replay: kr.Client) -> None:
    if lp.get_context().incarnation == 1:
        for number in range(ITEMS):
            replay.insert([np.full(3, number)], {"t": 1.0 + number})
        print("filled")
        lp.wait_for_stop()
    else:
        found = replay.items("t", limit=ITEMS + 1)
        print("found", sorted(map(float, found.info["priority"])))
        lp.stop("all is found")


def remembering() -> lp.Program:
    program = lp.Program("remembering")
    replay = program.add_node(lp.ReplayNode(tables, checkpointer), label="replay")
    program.add_node(lp.PyNode(fill_or_look, replay), label="worker")
    return program


def preemption(job: str) -> None:
    subprocess.run(["sbatch", "-p", "urgent", "-N3", "--exclusive", "--wrap", "sleep 1", "-o", "/dev/null"], check=True)


def requeue(job: str) -> None:
    subprocess.run(["scontrol", "requeue", job], check=True)


@pytest.mark.long
@pytest.mark.parametrize("take_away", [requeue, preemption, reach_the_limit])
def test_the_replay_table_is_as_it_was_when_the_job_begins_again(take_away: Callable[[str], None]) -> None:
    # Given a job with a table that was filled
    slurm = lp.Slurm(nodes=2, lost_after_s=4, signal_s=100)
    placement = {"replay": "a", "worker": "b"}
    found = choose_run(lp.submit(remembering(), slurm, placement=placement, stop_timeline=FAST_STOP))
    log = found.path / "logs" / "worker" / "0.log"
    until(lambda: log.exists() and "filled" in log.read_text("utf-8"), WITHIN_S, "a full table")
    # When Slurm takes the hosts away
    take_away(found.info.job)
    until(lambda: found.state is RunState.PENDING, WITHIN_S, "a job that waits again")
    begin_now(found.info.job)
    # Then it begins again, with the table as it was
    until(lambda: "found" in log.read_text("utf-8"), WITHIN_S, "the second incarnation")
    until(lambda: found.state.over, WITHIN_S, "the end of the run")
    assert str([1.0 + number for number in range(ITEMS)]) in log.read_text("utf-8")
    assert found.status().stop_reason == "all is found"


def test_scancel_ends_a_program_in_order_and_leaves_nothing() -> None:
    found = choose_run(lp.submit(remembering(), lp.Slurm(nodes=2), placement={"replay": "a", "worker": "b"}))
    log = found.path / "logs" / "worker" / "0.log"
    until(lambda: log.exists() and "filled" in log.read_text("utf-8"), WITHIN_S, "a full table")
    subprocess.run(["scancel", found.info.job], check=True)
    until(lambda: not queue(), WITHIN_S, "the end of the job")
    assert found.state is RunState.INTERRUPTED
    assert list((found.path / "checkpoints" / "replay" / "0").iterdir())


@pytest.mark.long
def test_two_programs_share_the_same_hosts_and_do_not_meet() -> None:
    # Given two, each on all hosts
    placement = {"server": ["a", "b", "c"]}
    slurm = lp.Slurm(nodes=3)
    both = [choose_run(lp.submit(three_servers(), slurm, placement=placement)) for _ in range(2)]
    for found in both:
        until(lambda found=found: ready(found) == 3, WITHIN_S, "all nodes")  # type: ignore[misc]
    hosts = []
    for found in both:
        with RemoteRun(found) as remote:
            hosts.append(sorted(node.host for node in remote.status().nodes))
    assert hosts[0] == hosts[1] == ["n1", "n2", "n3"]
    # When one is stopped, the other goes on
    with RemoteRun(both[0]) as remote:
        remote.request_stop("enough")
    until(lambda: both[0].ended, WITHIN_S, "the end of the first")
    assert attempts(both[1]) == [1, 1, 1]
    with RemoteRun(both[1]) as remote:
        remote.request_stop("enough")
    until(lambda: both[1].ended, WITHIN_S, "the end of the second")


@pytest.mark.long
def test_a_program_waits_for_hosts_that_others_have_and_says_so() -> None:
    # Given all hosts taken
    taken = subprocess.run(
        ["sbatch", "--parsable", "-N3", "--exclusive", "--wrap", "sleep 100", "-o", "/dev/null"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    found = choose_run(lp.submit(three_servers(), lp.Slurm(nodes=3), placement={"server": ["a", "b", "c"]}))
    until(lambda: found.status().waits_for == "Resources", WITHIN_S, "Slurm's reason")
    assert found.state is RunState.PENDING
    # When they fall free
    subprocess.run(["scancel", taken], check=True)
    until(lambda: ready(found) == 3, WITHIN_S, "all nodes")
    with RemoteRun(found) as remote:
        remote.request_stop("enough")
    until(lambda: found.ended, WITHIN_S, "the end")


def submit_from_a_shell_that_is_killed(*words: str) -> FoundRun:
    """It is killed with all that it started."""
    script = f"{shlex.join((sys.executable, '-m', 'kourou.cli', 'submit', *words))} && sleep 1000"
    with subprocess.Popen(
        ["/bin/sh", "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as shell:
        assert shell.stdout is not None
        run_id = shell.stdout.readline().strip()
        os.killpg(shell.pid, signal.SIGKILL)
    return choose_run(run_id)


def nodes_of(found: FoundRun) -> ape_x.Nodes:
    """As another shell sees them."""
    return ape_x.nodes_of(kourou("status", found.run_id, "--json").json)


APE_X = (ape_x.MAKER, "--on", "slurm", "-olost_after_s=4")


@pytest.mark.long
def test_ape_x_in_batch_over_three_hosts_is_followed_after_its_shell_was_killed() -> None:
    # Given the example, submitted by a shell that is killed
    found = submit_from_a_shell_that_is_killed(*APE_X)
    # When another one follows it, then it sees it learn, and can stop it
    ape_x.check_that_it_learns(found.path, lambda: nodes_of(found))
    assert {host for _, host, _ in nodes_of(found).values()} == {"n1", "n2", "n3"}
    assert "finished" in kourou("stop", found.run_id).out
    assert found.status().state is RunState.FINISHED


# The last one: the host is not brought back.
@pytest.mark.long
def test_ape_x_in_batch_goes_on_when_one_of_its_three_hosts_dies(machines: Machines) -> None:
    found = submit_from_a_shell_that_is_killed(*APE_X)

    def lose(host: str) -> None:
        """With its slurmd and all."""
        there = [each for each in machines.processes(f"m{host[1:]}") if each.name() != "sshd"]
        for process in there:
            with contextlib.suppress(psutil.NoSuchProcess):  # another one of them has ended it
                process.kill()
        all_gone(there, WITHIN_S)

    ape_x.check_that_a_lost_host_takes_its_actors_only(found.path, lambda: nodes_of(found), lose)
    # and the end is as usual, though the host is gone
    assert "finished" in kourou("stop", found.run_id).out
    assert found.status().state is RunState.FINISHED
