"""Hosts, agents, daemons and launchers that disappear: what is noticed when, what follows, and that nothing is left."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import kourou as lp
from kourou.errors import ProgramFailed
from optional import pytest
from polling import WAIT_S, all_gone, until
from spmd.machines import Machines
from ssh import nodes
from ssh.conftest import LOST_AFTER_S
from ssh.looking import agent_of, agents, answer_of, everything_on_hosts

pytestmark = [pytest.mark.needs("hosts"), pytest.mark.usefixtures("no_leaks")]

FAST_STOP = lp.StopTimeline(ask_s=1, interrupt_s=1, terminate_s=1)
MakeHosts = Callable[..., lp.Hosts]


def one_server(policy: Any = "fail") -> tuple[lp.Program, Any]:
    program = lp.Program("lost")
    with program.group("server", on_failure=policy):
        server = program.add_node(lp.CourierNode(nodes.Server))
    return program, server


def kill_agent(machines: Machines, pid: int) -> None:
    del machines
    agent_of(pid).kill()


def kill_sshd(machines: Machines, pid: int) -> None:
    above = {process.pid for process in psutil.Process(pid).parents()}
    (daemon,) = [process for process in machines.sshds("m2") if process.pid in above]
    daemon.kill()


@pytest.mark.parametrize("kill", [kill_agent, kill_sshd])
def test_a_killed_agent_or_sshd_is_a_lost_host_and_its_nodes_start_again_elsewhere(
    hosts: MakeHosts, machines: Machines, kill: Callable[[Machines, int], None]
) -> None:
    # Given a node on m2 with a grandchild of its own, that may also run on m3
    program, handle = one_server(lp.Restart(backoff_s=0.01))
    program.add_node(lp.PyNode(nodes.spawn_and_wait), label="worker")
    placement = {"server": ["m2", "m3"], "worker": "m1"}
    with lp.launch(program, "ssh", hosts=hosts(), placement=placement, stop_timeline=FAST_STOP) as run:
        client = handle.dereference()
        host, pid, _ = answer_of(client, attempt=1)
        assert host == "m2"
        lost = [process for process in everything_on_hosts() if agent_of_or_self(process) == agent_of(pid)]
        until(lambda: run.nodes["worker/0"].state is lp.NodeState.READY, WAIT_S)
        connections = len(of_coordinator())
        # When
        kill(machines, pid)
        # Then
        until(lambda: run.nodes["server/0"].exit, WAIT_S)
        exit_record = run.nodes["server/0"].exit
        assert exit_record is not None
        assert exit_record.cause.startswith("was lost with its host: m2: the connection to its agent broke")
        host, _, _ = answer_of(client, attempt=2)
        assert host == run.nodes["server/0"].host == "m3"
        all_gone(lost, 5)
        # … and its nodes' connections to the coordinator are no more
        until(lambda: len(of_coordinator()) == connections, WAIT_S)


def of_coordinator() -> list[Any]:
    """The ends of connections within this process: those of all hosts' nodes, which come to the coordinator here."""
    ends = [(one.laddr, one.raddr) for one in psutil.Process().net_connections("tcp") if one.raddr]
    return [(here, there) for here, there in ends if (there, here) in ends]


def agent_of_or_self(process: psutil.Process) -> psutil.Process | None:
    try:
        return process if process in agents() else agent_of(process.pid)
    except (psutil.Error, ValueError):
        return None


def test_without_a_policy_a_lost_host_ends_the_program(hosts: MakeHosts) -> None:
    program, handle = one_server()
    run = lp.launch(program, "ssh", hosts=hosts("m2", "m3", lost_after_s=600), stop_timeline=FAST_STOP)
    agent = agent_of(answer_of(handle.dereference(), attempt=1)[1])
    agent.kill()
    with pytest.raises(ProgramFailed, match="server/0 was lost with its host: m2"):
        run.wait(timeout_s=WAIT_S)


def test_where_there_is_one_host_only_it_is_called_again(hosts: MakeHosts) -> None:
    program, handle = one_server(lp.Restart(backoff_s=0.01))
    with lp.launch(program, "ssh", hosts=hosts("m2"), stop_timeline=FAST_STOP):
        client = handle.dereference()
        agent_of(answer_of(client, attempt=1)[1]).kill()
        assert answer_of(client, attempt=2)[0] == "m2"


def test_a_link_that_is_cut_for_five_seconds_is_survived(hosts: MakeHosts, machines: Machines, tmp_path: Path) -> None:
    program, handle = one_server()
    program.add_node(lp.PyNode(nodes.count, handle, tmp_path), label="client")
    counted = tmp_path / "count"
    placement = {"server": "m3", "client": "m1"}
    with lp.launch(program, "ssh", hosts=hosts(), placement=placement, stop_timeline=FAST_STOP) as run:
        until(counted.exists, WAIT_S)
        # When
        machines.cut("m3")
        try:
            time.sleep(5)  # that is the time to survive
        finally:
            machines.mend("m3")
        # Then calls go on, and nothing was started again
        before = int(counted.read_text(encoding="ascii"))
        until(lambda: int(counted.read_text(encoding="ascii") or 0) > before + 3, WAIT_S)
        assert {record.attempt for record in run.nodes.values()} == {1}
        assert not any(record.state.ended for record in run.nodes.values())


def test_a_link_that_is_cut_for_good_is_noticed_in_time_by_all_who_wait(
    hosts: MakeHosts, machines: Machines, tmp_path: Path
) -> None:
    # Given a call under way from m1 to m3
    program, handle = one_server(lp.Restart(backoff_s=0.01))
    program.add_node(lp.PyNode(nodes.call_for_ever, handle, tmp_path), label="client")
    placement = {"server": ["m3", "m2"], "client": "m1"}
    given = hosts(lost_after_s=LOST_AFTER_S)
    with lp.launch(program, "ssh", hosts=given, placement=placement, stop_timeline=FAST_STOP) as run:
        until((tmp_path / "calling").exists, WAIT_S)
        record = run.nodes["server/0"]
        assert record.host == "m3"
        assert record.pid is not None
        lost = [psutil.Process(record.pid), agent_of(record.pid)]
        # When
        machines.cut("m3")
        try:
            # Then the node has ended before it has a successor
            all_gone(lost, WAIT_S)
            until((tmp_path / "told").exists, WAIT_S)
            text = until(lambda: (tmp_path / "told").read_text(encoding="utf-8"), WAIT_S)
            assert text.startswith(("NodeRestarted", "NodeExited", "ConnectionLost"))
            until(lambda: str(run.nodes["server/0"].state) == "READY", WAIT_S)
            assert (run.nodes["server/0"].host, run.nodes["server/0"].attempt) == ("m2", 2)
        finally:
            machines.mend("m3")


SCRIPT = """
    import sys
    import kourou as lp
    from ssh import nodes

    program = lp.Program("killed")
    for _ in range(3):
        program.add_node(lp.PyNode(nodes.spawn_and_wait), label="worker")
    hosts = lp.Hosts(["m1", "m2", "localhost"], ssh_config=sys.argv[1], copy_env_vars=("KOUROU_RUNS_DIR",))
    run = lp.launch(program, "ssh", hosts=hosts)
    while {str(record.state) for record in run.nodes.values()} != {"READY"}:
        pass
    print("ready", flush=True)
    run.wait()
"""


def test_nothing_is_left_on_any_host_when_the_launcher_is_killed(machines: Machines, tmp_path: Path) -> None:
    # Given
    script = tmp_path / "launcher.py"
    path = [str(Path(__file__).parent.parent)]
    script.write_text(f"import sys; sys.path[:0] = {path!r}\n" + textwrap.dedent(SCRIPT), "utf-8")
    command = [sys.executable, str(script), str(machines.ssh_config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        try:
            assert launcher.stdout.readline() == "ready\n"
            # An agent, a zygote, a node and a grandchild on each host.
            until(lambda: len(everything_on_hosts()) >= 3 * 4, WAIT_S)
            processes = everything_on_hosts()
        finally:
            # When
            launcher.send_signal(signal.SIGKILL)
    # Then
    all_gone(processes, 5)
