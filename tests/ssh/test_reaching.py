"""The ways to a host that the user's ssh_config chooses, the command line, and groups of ranks that span hosts."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

import kourou as lp
from cli.commands import kourou as command
from kourou import courier
from kourou.errors import DeadlineExceeded, ProgramFailed, RpcError
from optional import pytest
from polling import WAIT_S, until
from spmd.machines import Machines
from ssh import nodes, ranks
from ssh.conftest import LOST_AFTER_S
from ssh.looking import agent_of

pytestmark = [pytest.mark.needs("hosts"), pytest.mark.usefixtures("no_leaks")]

FAST_STOP = lp.StopTimeline(ask_s=1, interrupt_s=1, terminate_s=1)
LONG_S = 60.0  # ranks import torch first, and this machine may be busy
MakeHosts = Callable[..., lp.Hosts]


def one_server() -> tuple[lp.Program, lp.Handle[nodes.Server]]:
    program = lp.Program("reached")
    return program, program.add_node(lp.CourierNode(nodes.Server), label="server")


def config_with(machines: Machines, folder: Path, text: str) -> Path:
    path = folder / "ssh_config"
    path.write_text(text + machines.ssh_config.read_text(encoding="utf-8"), encoding="utf-8")
    return path


def test_a_host_behind_another_one_is_reached_through_it(hosts: MakeHosts, machines: Machines, tmp_path: Path) -> None:
    # Given
    assert machines.sshds("m1") == []
    jump = f"Host inner\n  HostName {machines.address('m2')}\n  ProxyJump m1\n"
    config = config_with(machines, tmp_path, jump)
    program, handle = one_server()
    # When
    with lp.launch(program, "ssh", hosts=hosts("inner", ssh_config=config), stop_timeline=FAST_STOP):
        # Then
        assert handle.dereference().where()[0] == "m2"
        assert len(machines.sshds("m1")) == 1
    until(lambda: not machines.sshds("m1"), WAIT_S)


def test_a_host_that_only_others_reach_takes_part_and_the_launchers_own_calls_say_why_they_fail(
    hosts: MakeHosts, machines: Machines, tmp_path: Path
) -> None:
    # Given a host behind another one that this machine has no way to
    jump = f"Host inner\n  HostName {machines.address('m2')}\n  ProxyJump m1\n"
    config = config_with(machines, tmp_path, jump)
    program, inner = one_server()
    with program.group("relay"):
        relay = program.add_node(lp.CourierNode(nodes.Relay, inner))
    placement = {"server": "inner", "relay": "m1"}
    given = hosts("m1", "inner", ssh_config=config)
    with (
        machines.out_of_reach("m2"),
        lp.launch(program, "ssh", hosts=given, placement=placement, stop_timeline=FAST_STOP),
    ):
        # Then nodes call each other
        assert relay.dereference().where()[0] == "m2"
        # and the launcher is told what is wrong
        with pytest.raises(DeadlineExceeded, match=rf"server/0 did not answer .*{machines.address('m2')}:\d+: .*route"):
            courier.with_options(inner.dereference(), timeout_s=2).where()


@pytest.fixture
def shared_connection(machines: Machines, tmp_path: Path) -> Iterator[Path]:
    """An ssh_config by which all connections to m2 share one, which is open already."""
    with tempfile.TemporaryDirectory(prefix="k", dir="/tmp") as folder:  # a socket's path has to be short
        share = f"Host m2\n  ControlMaster auto\n  ControlPath {folder}/%C\n  ControlPersist 60\n"
        config = config_with(machines, tmp_path, share)
        ssh = ["ssh", "-F", str(config)]
        subprocess.run([*ssh, "m2", "true"], check=True, stderr=subprocess.DEVNULL)
        try:
            yield config
        finally:
            subprocess.run([*ssh, "-O", "exit", "m2"], check=False, capture_output=True)


def test_a_shared_connection_is_used_and_left_open(
    hosts: MakeHosts, machines: Machines, shared_connection: Path
) -> None:
    master = machines.sshds("m2")
    assert len(master) == 1
    program, handle = one_server()
    run = lp.launch(program, "ssh", hosts=hosts("m2", ssh_config=shared_connection), stop_timeline=FAST_STOP)
    _, pid, _ = handle.dereference().where()
    assert machines.sshds("m2") == master
    # and what is lost on it is noticed
    agent_of(pid).kill()
    with pytest.raises(ProgramFailed, match="was lost with its host: m2"):
        run.wait(timeout_s=WAIT_S)
    assert machines.sshds("m2") == master


def test_a_cut_under_a_shared_connection_is_noticed_although_ssh_does_not(
    hosts: MakeHosts, machines: Machines, shared_connection: Path
) -> None:
    program, handle = one_server()
    given = hosts("m2", ssh_config=shared_connection, lost_after_s=LOST_AFTER_S)
    run = lp.launch(program, "ssh", hosts=given, stop_timeline=FAST_STOP)
    handle.dereference().where()
    machines.cut("m2")
    try:
        with pytest.raises(ProgramFailed, match=r"its agent said nothing for 4 s"):
            run.wait(timeout_s=WAIT_S)
    finally:
        machines.mend("m2")


def kourou(*words: str) -> str:
    done = command(*words)
    assert done.code == 0, done.err
    return done.out


def test_the_command_line_works_from_another_shell(hosts: MakeHosts) -> None:
    program, handle = one_server()
    with lp.launch(program, "ssh", hosts=hosts("m3"), stop_timeline=FAST_STOP) as run:
        handle.dereference().say("words of m3")
        told = subprocess.run([sys.executable, "-m", "kourou.cli", "status", "--json"], capture_output=True, check=True)
        (node,) = json.loads(told.stdout)["nodes"]
        assert node["host"] == "m3"
        assert node["memory_bytes"] > 1 << 20  # told by the node itself
        assert "m3" in kourou("status", run.run_id)
        assert "in wait" in kourou("debug", run.run_id, "server")
        assert kourou("call", run.run_id, "server", "echo", "7").strip() == "7"
        until(lambda: "words of m3" in kourou("logs", run.run_id, "server"), WAIT_S)
        assert "ssh" in kourou("ps")
        kourou("stop", run.run_id)
        run.wait(timeout_s=WAIT_S)
    assert "finished" in kourou("status", run.run_id)


def test_a_plan_tells_the_host_of_each_node_and_starts_nothing(tmp_path: Path) -> None:
    source = """
        import kourou as lp

        def make():
            program = lp.Program("planned")
            for _ in range(3):
                program.add_node(lp.PyNode(print), label="worker")
            return program, {"placement": {"worker": {"b": 2, "a": 1}}}
    """
    (tmp_path / "planned.py").write_text("\n".join(line[8:] for line in source.splitlines()), encoding="utf-8")
    (tmp_path / "hosts.txt").write_text("a slots=1  # small\nb\n", encoding="utf-8")
    words = (f"{tmp_path}/planned.py:make", "--launch-type", "ssh", "--hosts", str(tmp_path / "hosts.txt"))
    rows = [line.split("│")[1:3] for line in kourou("plan", *words).splitlines() if "worker" in line]
    assert [tuple(cell.strip() for cell in row) for row in rows] == [
        ("worker/0", "b"),
        ("worker/1", "b"),
        ("worker/2", "a"),
    ]


def test_the_ranks_of_one_node_may_be_on_several_hosts_and_start_again_together(hosts: MakeHosts) -> None:
    # Given a group of ranks on two hosts
    program = lp.Program("ranks")
    with program.group("learner", on_failure=lp.Restart(backoff_s=0.01)):
        learner = program.add_node(lp.TorchNode(ranks.Learner, 3, backend="gloo"))
    placement = {"learner": {"m1": 2, "m2": 1}}
    with lp.launch(program, "ssh", hosts=hosts("m1", "m2"), placement=placement, stop_timeline=FAST_STOP) as run:
        client = learner.dereference()
        assert client.all.sum() == [3.0, 3.0, 3.0]
        told = client.all.variables("RANK", "LOCAL_RANK", "GROUP_RANK", "LOCAL_WORLD_SIZE")
        assert told == [["0", "0", "0", "2"], ["1", "1", "0", "2"], ["2", "0", "1", "1"]]
        assert [run.nodes[f"learner/0:{rank}"].host for rank in range(3)] == ["m1", "m1", "m2"]
        pid = run.nodes["learner/0:2"].pid
        assert pid is not None
        # When
        agent_of(pid).kill()

        # Then all of them meet again, where there is a host
        def meet() -> list[float] | None:
            try:
                return [float(answer) for answer in client.all.sum()]
            except RpcError:
                return None

        until(lambda: run.nodes["learner/0:2"].attempt > 1 and str(run.nodes["learner/0"].state) == "READY", LONG_S)
        assert until(meet, LONG_S) == [3.0, 3.0, 3.0]
        assert {run.nodes[f"learner/0:{rank}"].attempt for rank in range(3)} == {2}
        assert run.nodes["learner/0:2"].host == "m1"


def test_an_agent_from_the_command_line_ends_with_its_input() -> None:
    command = [sys.executable, "-m", "kourou.cli", "agent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        assert agent.stdout.read(len(b"\nkourou-agent-1\n")) == b"\nkourou-agent-1\n"
        assert [c for c in psutil.Process(agent.pid).net_connections() if c.status == psutil.CONN_LISTEN] == []
        agent.stdin.close()
        assert agent.wait(WAIT_S) == 0
