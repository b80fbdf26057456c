"""Programs on three hosts over real ssh: calls, lanes, stop, failures, restarts, and the command line."""

from __future__ import annotations

import socket
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import kourou as lp
import kourou.compat
from kourou import courier
from kourou.courier import Client
from kourou.courier.lanes.local.socket_file import default_folder
from kourou.errors import AgentFailedError, LaunchError, PlanError, ProgramFailed, RpcError
from kourou.runtime.metrics.reading import read_images, read_metrics
from kourou.spmd import Launcher
from optional import pytest
from polling import WAIT_S, until
from spmd.machines import WITHOUT_TORCH, Machines
from ssh import nodes
from ssh.looking import agents, answer_of

pytestmark = [pytest.mark.needs("hosts"), pytest.mark.usefixtures("no_leaks")]

FAR_AWAY = """
import os
def tell(): print('here', os.getcwd())
def folder(): return os.getcwd()
"""
FAST_STOP = lp.StopTimeline(ask_s=2, interrupt_s=1, terminate_s=1)
MakeHosts = Callable[..., lp.Hosts]


def servers(count: int, **group: object) -> tuple[lp.Program, list[Any]]:
    program = lp.Program("hosts")
    with program.group("server", **group):  # type: ignore[arg-type]
        handles = [program.add_node(lp.CourierNode(nodes.Server)) for _ in range(count)]
    return program, handles


def test_nodes_of_three_hosts_call_each_other_by_the_lanes_that_they_share(hosts: MakeHosts) -> None:
    # Given
    program, handles = servers(3)
    program.add_node(lp.PyNode(nodes.greet, *handles), label="client")
    # When
    run = lp.launch(program, "ssh", hosts=hosts(), placement={"client": "m1"}, stop_timeline=FAST_STOP)
    run.wait(timeout_s=WAIT_S)
    # Then
    text = (run.folder / "logs" / "client" / "0.log").read_text(encoding="utf-8").splitlines()
    assert text == ["server/0 on m1 by local", "server/1 on m2 by grpc", "server/2 on m3 by grpc"]
    assert {name: record.host for name, record in run.nodes.items()} == {
        "server/0": "m1",
        "server/1": "m2",
        "server/2": "m3",
        "client/0": "m1",
    }
    assert {str(record.state) for record in run.nodes.values()} == {"FINISHED"}


def test_what_nodes_of_other_hosts_log_is_in_the_runs_folder_before_they_have_ended(hosts: MakeHosts) -> None:
    # Given nodes of which one is killed right after it has logged
    program, handles = servers(2, on_failure="ignore")
    with lp.launch(program, "ssh", hosts=hosts("m1", "m2"), stop_timeline=FAST_STOP) as run:
        clients = [handle.dereference() for handle in handles]
        # When they log
        for step, client in enumerate(clients):
            client.log(step)
        with pytest.raises(RpcError):
            clients[1].leave()
        until(lambda: run.nodes["server/1"].state.ended, WAIT_S, "the end of a node")
        # Then all of it is here, at once where one has ended
        assert ("server/1", 1, "m2") in [(row["node"], row["step"], row["host"]) for row in read_metrics(run.folder)]
        until(lambda: len(read_images(run.folder)) == 2, WAIT_S, "the other one's rows")
    assert sorted(row["host"] for row in read_metrics(run.folder)) == ["m1", "m2"]
    assert all((run.folder / image["file"]).exists() for image in read_images(run.folder))


def test_the_launcher_calls_nodes_of_other_hosts_and_this_machine_may_be_one(hosts: MakeHosts) -> None:
    program, (here, there) = servers(2)
    with lp.launch(program, "ssh", hosts=hosts("localhost", "m2"), stop_timeline=FAST_STOP) as run:
        first, second = here.dereference(), there.dereference()
        assert first.where()[0] == socket.gethostname()
        assert second.where()[0] == "m2"
        assert (courier.lane(first), courier.lane(second)) == ("local", "grpc")
        with pytest.raises(ValueError, match="had enough"):
            second.fail()
        second.say("Grüße von m2")
        log = run.folder / "logs" / "server" / "1.log"
        until(lambda: log.exists() and "Grüße von m2" in log.read_text(encoding="utf-8"), WAIT_S)


def test_what_crosses_hosts_is_encrypted_and_no_secret_is_in_a_command_line(hosts: MakeHosts) -> None:
    program, (handle,) = servers(1)
    with lp.launch(program, "ssh", hosts=hosts("m2"), stop_timeline=FAST_STOP) as run:
        client = handle.dereference()
        client.where()
        # Given the token itself
        token = (run.folder / "token").read_text(encoding="ascii")
        address = lp.courier.Endpoint.from_json(run.nodes["server/0"].endpoint or "").grpc
        # When somebody speaks no TLS, then nobody answers
        with Client(address, token=token, timeout_s=2) as plain, pytest.raises(RpcError):
            plain.where()
        # When somebody has the certificate but another token, then it is of no use
        certificate = (run.folder / "certificate.pem").read_bytes()
        stranger = Client(address, token="guess", tls=certificate, lane="grpc", timeout_s=5)
        with stranger, pytest.raises(lp.errors.Unauthenticated):
            stranger.where()
        words = [word for process in psutil.process_iter(["cmdline"]) for word in process.info["cmdline"] or ()]
        assert not any(token in word for word in words)
        # and no key is in a file
        files = [path for path in Path(default_folder()).rglob("*") if path.is_file()]
        assert files
        assert not any(b"PRIVATE KEY" in path.read_bytes() for path in files)
        # and the launcher listens on its loopback alone
        mine = psutil.Process().net_connections(kind="inet")
        assert {c.laddr.ip for c in mine if c.status == psutil.CONN_LISTEN} <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_variables_cross_that_were_asked_for(hosts: MakeHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_HOSTILE", "a 'b'\n\"$c\"")
    monkeypatch.setenv("SECRET_OF_THE_LAUNCHER", "1")
    program, (handle,) = servers(1)
    resources = {"server": lp.Resources(env={"MINE": "2"}, cpus=1)}
    with lp.launch(program, "ssh", hosts=hosts("m2"), local_resources=resources, stop_timeline=FAST_STOP):
        client = handle.dereference()
        assert client.variable("NCCL_HOSTILE") == "a 'b'\n\"$c\""
        assert client.variable("SECRET_OF_THE_LAUNCHER") is None
        assert client.variable("MINE") == "2"
        assert len(client.cpus()) == 1  # of those that the host told of, since nobody else did


def test_a_node_that_fails_names_its_host(hosts: MakeHosts) -> None:
    program, _ = servers(1)
    program.add_node(lp.PyNode(nodes.fail), label="worker")
    placement = {"worker": "m3", "server": "m1"}
    run = lp.launch(program, "ssh", hosts=hosts("m1", "m3"), placement=placement, stop_timeline=FAST_STOP)
    with pytest.raises(ProgramFailed, match="no luck on m3"):
        run.wait(timeout_s=WAIT_S)
    (failure,) = run.failures
    assert (failure.node, failure.host) == ("worker/0", "m3")
    assert "Traceback" in failure.traceback


def test_a_node_that_is_killed_starts_again_on_its_host(hosts: MakeHosts) -> None:
    program, (handle,) = servers(1, on_failure=lp.Restart(backoff_s=0.01))
    with lp.launch(
        program, "ssh", hosts=hosts("m2", "m3"), placement={"server": ["m2", "m3"]}, stop_timeline=FAST_STOP
    ):
        client = handle.dereference()
        _, pid, _ = client.where()
        # When
        psutil.Process(pid).kill()
        # Then
        host, new_pid, attempt = answer_of(client, attempt=2)
        assert (host, attempt) == ("m2", 2)
        assert new_pid != pid


def test_a_host_that_does_not_answer_stops_the_launch_with_sshs_own_words(hosts: MakeHosts) -> None:
    program, _ = servers(2)
    with pytest.raises(AgentFailedError, match="nowhere: its agent did not start; ssh said") as caught:
        lp.launch(program, "ssh", hosts=hosts("m1", "nowhere", connect_timeout_s=4))
    assert caught.value.hostname == "nowhere"
    until(lambda: not agents(), WAIT_S)


def test_too_much_is_refused_before_anything_starts(hosts: MakeHosts) -> None:
    program, _ = servers(2)
    resources = {"server": lp.Resources(gpus=1)}
    with pytest.raises(PlanError, match="no host has room"):
        lp.launch(program, "ssh", hosts=hosts(lp.Host("m1", gpus=1)), local_resources=resources)
    with pytest.raises(PlanError, match=r"server/0: no host has room; m1: .*GPUs are asked for"):
        lp.launch(program, "ssh", hosts=hosts("m1"), local_resources=resources)  # the host is asked, and has none


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """Another interpreter, which has kourou."""
    venv.create(tmp_path / "other python", symlinks=True)
    (site,) = (tmp_path / "other python").glob("lib/python*/site-packages")
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "kourou.pth").write_text("\n".join([*here, str(Path(lp.__file__).parent.parent)]), encoding="utf-8")
    return tmp_path / "other python" / "bin" / "python"


def test_a_host_may_have_an_interpreter_of_its_own(hosts: MakeHosts, other_python: Path) -> None:
    program, (first, second) = servers(2)
    given = hosts(lp.Host("m1", python=str(other_python)), "m2")
    with lp.launch(program, "ssh", hosts=given, stop_timeline=FAST_STOP):
        assert first.dereference().python() == (str(other_python), str(other_python.parent.parent))
        assert second.dereference().python() == (sys.executable, sys.prefix)


def test_an_interpreter_that_is_not_there_is_told_in_the_shells_words(hosts: MakeHosts) -> None:
    program, _ = servers(1)
    with pytest.raises(AgentFailedError, match=r"(?s)m1: its agent did not start.*no/python.*(not found|No such file)"):
        lp.launch(program, "ssh", hosts=hosts(lp.Host("m1", python="/there/is/no/python")))


@pytest.mark.needs("rsync")
def test_other_hosts_have_the_names_of_other_projects_too(hosts: MakeHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    kourou.compat.install()
    program = lp.Program("compat")
    program.add_node(lp.PyNode(nodes.import_launchpad), label="node")
    run = lp.launch(program, "ssh", hosts=hosts("m2"), stop_timeline=FAST_STOP)
    run.wait(timeout_s=WAIT_S)
    assert (run.folder / "logs" / "node" / "0.log").read_text(encoding="utf-8").split() == ["kourou.nodes.courier"]


def test_a_copy_of_the_working_folder_runs_where_there_is_no_shared_one(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a project that the host does not have
    project = tmp_path / "my 'project'"
    (project / "src").mkdir(parents=True)
    (project / "src" / "far_away.py").write_text(FAR_AWAY, "utf-8")
    (project / ".gitignore").write_text("ignored\n", "utf-8")
    (project / "ignored").write_text("", "utf-8")
    cache = Path.home() / ".cache"
    cache.mkdir(exist_ok=True)
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project / "src"))
    import far_away  # type: ignore[import-not-found]

    program = lp.Program("copied")
    program.add_node(lp.PyNode(far_away.tell), label="teller")
    variables = {"m1": {"PYTHONPATH": WITHOUT_TORCH}}
    with Machines(tmp_path_factory.mktemp("apart"), 1, empty=(project, cache), variables=variables).up() as one:
        # When
        run = lp.launch(program, "ssh", hosts=lp.Hosts(["m1"], ssh_config=one.ssh_config, sync="rsync"))
        run.wait(timeout_s=WAIT_S)
        # Then
        text = (run.folder / "logs" / "teller" / "0.log").read_text(encoding="utf-8")
        assert text.startswith("here /")
        assert "/.cache/kourou/trees/my-project-" in text
        # and so do ranks
        launcher = Launcher(["m1"], 1, one.ssh_config, None, sync="rsync").set_logging_handlers(None)
        with launcher:
            assert "/.cache/kourou/trees/my-project-" in launcher.run(far_away.folder).rank(0)
        # and where rsync is missing, that is said
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(LaunchError, match="rsync, which is not installed here"):
            lp.launch(program, "ssh", hosts=lp.Hosts(["m1"], ssh_config=one.ssh_config, sync="rsync"))
