"""Calls between nodes when the one that is called is late, has ended, or is not there; and who may call."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import kourou as lp
from kourou import courier
from kourou.proto.v1 import coordinator_pb2 as pb
from optional import psutil, pytest
from polling import WAIT_S, marked, until

LAUNCH_TYPES = ["local_mt", "local_mp"]
QUICK = lp.StopTimeline(ask_s=0.3, interrupt_s=0.5, terminate_s=0.5)


class Server:
    def ping(self):
        return "pong"


class EndsEarly:
    def ping(self):
        return "pong"

    def run(self):
        return


class NeverReady:
    def __init__(self):
        lp.wait_for_stop()
        raise lp.errors.StopRequested

    def ping(self):
        return "too late"


@pytest.fixture
def running():
    """Launches programs and stops them at the end of the test."""
    runs = []

    def launch(program, launch_type):
        runs.append(lp.launch(program, launch_type, stop_timeline=QUICK))
        return runs[-1]

    yield launch
    for run in runs:
        run.stop()


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_call_to_a_node_that_ended_fails_at_once_and_says_how_it_ended(launch_type, running):
    # Given a node that has finished while others work on.
    program = lp.Program("ended")
    ended = program.add_node(lp.CourierNode(EndsEarly), label="ended")
    server = program.add_node(lp.CourierNode(Server), label="server")
    program.add_node(lp.PyNode(lp.wait_for_stop), label="worker")
    run = running(program, launch_type)
    with pytest.raises(lp.errors.GraphError, match=r"wait takes labels of nodes, got 5; seconds are wait\(timeout_s="):
        run.wait(5)
    run.wait(["ended"], timeout_s=WAIT_S)
    assert server.dereference().ping() == "pong"
    # When it is called, then that fails at once.
    for call in (
        lambda: ended.dereference().ping(),
        lambda: lp.courier.submit(ended.dereference().ping).result(WAIT_S),
    ):
        with pytest.raises(lp.errors.NodeExited, match="ended/0 has ended: finished"):
            call()


class Stands:
    """Its handler returns when its call is cancelled; ``end`` ends the node meanwhile, by itself or by SIGTERM."""

    def __init__(self):
        self.begun = threading.Event()
        self.ends = threading.Event()

    def stand(self):
        self.begun.set()
        courier.current_call().cancelled.wait(WAIT_S)

    def end(self, *, by_signal):
        assert self.begun.wait(WAIT_S)
        if by_signal:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.ends.set()

    def run(self):
        self.ends.wait(WAIT_S)


@pytest.mark.parametrize(
    ("launch_type", "by_signal", "policy", "raised"),
    [
        ("local_mt", False, "ignore", lp.errors.NodeExited),
        ("local_mp", False, "ignore", lp.errors.NodeExited),
        ("local_mp", True, "ignore", lp.errors.NodeExited),
        ("local_mp", True, lp.Restart(), lp.errors.NodeRestarted),
    ],
)
def test_a_call_under_way_at_a_node_that_ends_is_told_so_and_not_that_the_program_stops(
    launch_type, by_signal, policy, raised, running
):
    program = lp.Program("ends")
    with program.group("stands", on_failure=policy):
        stands = program.add_node(lp.CourierNode(Stands))
    program.add_node(lp.PyNode(lp.wait_for_stop), label="worker")
    run = running(program, launch_type)
    client = stands.dereference()
    standing = courier.submit(client.stand)
    ended = courier.submit(client.end, by_signal=by_signal)
    with pytest.raises(raised):
        standing.result(WAIT_S)
    ended.exception(WAIT_S)
    assert run.failures == ()


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_node_that_calls_one_that_ended_gets_the_same_error(launch_type, running):
    def call(client, path):
        deadline = time.monotonic() + WAIT_S
        try:
            while time.monotonic() < deadline:
                client.ping()
        except lp.errors.NodeExited as error:
            Path(path).write_text(str(error), encoding="utf-8")
        lp.wait_for_stop()

    program = lp.Program("ended-for-nodes")
    ended = program.add_node(lp.CourierNode(EndsEarly), label="ended")
    path = Path(os.environ["KOUROU_RUNS_DIR"]).parent / "told"
    program.add_node(lp.PyNode(call, ended, str(path)), label="caller")
    run = running(program, launch_type)
    until(
        lambda: run.failures or (path.exists() and "ended/0 has ended" in path.read_text(encoding="utf-8")),
        WAIT_S,
        f"NodeExited in the caller, among {run.nodes}",
    )
    assert run.failures == ()


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_call_to_a_node_that_is_not_ready_waits_for_its_time_out_and_tells_the_state(launch_type, running):
    # Given a node whose constructor does not return.
    program = lp.Program("never-ready")
    handle = program.add_node(lp.CourierNode(NeverReady, courier_client_kwargs={"timeout_s": 0.3}), label="late")
    running(program, launch_type)
    # When it is called with a time-out, then that passes, and the error says what the node does.
    started = time.monotonic()
    with pytest.raises(lp.errors.DeadlineExceeded, match=r"late/0 .*STARTING"):
        handle.dereference().ping()
    assert time.monotonic() - started > 0.25


def test_a_caller_that_waits_for_a_node_that_never_gets_ready_is_told_of_the_program_s_end(running):
    # Given a call that waits without a limit.
    program = lp.Program("never-ready")
    handle = program.add_node(lp.CourierNode(NeverReady), label="late")
    run = running(program, "local_mt")
    future = lp.courier.submit(handle.dereference().ping)
    # When the program ends.
    run.stop()
    # Then the call fails, it does not hang.
    with pytest.raises((lp.errors.NodeExited, lp.errors.ConnectionLost, lp.errors.CallCancelled)):
        future.result(WAIT_S)


def test_a_caller_of_a_late_node_says_that_it_waits(running, caplog, monkeypatch):
    monkeypatch.setattr("kourou.runtime.waiting.node_target.PATIENCE_S", 0.1)
    program = lp.Program("never-ready")
    handle = program.add_node(lp.CourierNode(NeverReady, courier_client_kwargs={"timeout_s": 0.5}), label="late")
    running(program, "local_mt")
    with caplog.at_level(logging.WARNING), pytest.raises(lp.errors.DeadlineExceeded):
        handle.dereference().ping()
    assert re.search(r"waiting for late/0 .*STARTING", caplog.text)


def test_a_call_that_is_under_way_when_its_node_is_killed_fails_with_node_exited(running):
    # Given a call that takes long.
    class Slow:
        def wait(self):
            Path(os.environ["KOUROU_RUNS_DIR"], "called").touch()
            lp.wait_for_stop()

    with_policy = lp.Program("killed")
    with with_policy.group("slow", on_failure="ignore"):
        handle = with_policy.add_node(lp.CourierNode(Slow))
    with_policy.add_node(lp.PyNode(lp.wait_for_stop), label="worker")
    run = running(with_policy, "local_mp")
    future = lp.courier.submit(handle.dereference().wait)
    until(Path(os.environ["KOUROU_RUNS_DIR"], "called").exists, WAIT_S)
    # When the node is killed.
    psutil.Process(run.nodes["slow/0"].pid).kill()
    # Then the caller is told so.
    with pytest.raises(lp.errors.NodeExited, match="slow/0 has ended: was killed by SIGKILL"):
        future.result(WAIT_S)


def test_a_handle_of_a_program_that_is_not_running_says_so():
    program = lp.Program("not-launched")
    handle = program.add_node(lp.CourierNode(Server), label="server")
    with pytest.raises(lp.errors.HandleNotResolved, match=r"server/0 .*lp\.launch first"):
        handle.dereference()
    with pytest.raises(lp.errors.HandleNotResolved, match=r"server/0, .*no attribute 'ping'.*dereference"):
        handle.ping()  # type: ignore[attr-defined]  # as it should
    with lp.launch(program, "local_mt", stop_timeline=QUICK):
        assert handle.dereference().ping() == "pong"
    with pytest.raises(lp.errors.HandleNotResolved, match="not running"):
        handle.dereference()


# -- who may call -----------------------------------------------------------------------------------------------------


def _program():
    program = lp.Program("services")
    handle = program.add_node(lp.CourierNode(Server), label="server")
    program.add_node(lp.PyNode(lp.wait_for_stop), label="function")
    program.add_node(lp.PyClassNode(_Waiting), label="class")
    return program, handle


class _Waiting:
    def run(self):
        lp.wait_for_stop()


def _endpoints(run):
    until(lambda: all(record.state is lp.NodeState.READY for record in run.nodes.values()), WAIT_S)
    return {name: json.loads(record.endpoint) for name, record in run.nodes.items()}


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_every_node_answers_health_checks_and_reflection(launch_type, running):
    # Given a program with a node of each kind.
    program, _ = _program()
    run = running(program, launch_type)
    endpoints = _endpoints(run)
    assert endpoints.keys() == {"server/0", "function/0", "class/0"}
    metadata = [("kourou-token", _token_of(run))]
    for endpoint in endpoints.values():
        with grpc.insecure_channel(endpoint["grpc"]) as channel:
            # When standard clients ask, then each says that it is well, and what it serves.
            health: Any = health_pb2_grpc.HealthStub(channel)
            reply = health.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S, metadata=metadata)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            question = reflection_pb2.ServerReflectionRequest(list_services="")
            (answer,) = stub.ServerReflectionInfo(iter([question]), timeout=WAIT_S, metadata=metadata)
            services = {service.name for service in answer.list_services_response.service}
            assert "grpc.health.v1.Health" in services
            (ours,) = [name for name in services if name.startswith("kourou.")]
            question = reflection_pb2.ServerReflectionRequest(file_containing_symbol=ours)
            (answer,) = stub.ServerReflectionInfo(iter([question]), timeout=WAIT_S, metadata=metadata)
            files = [
                descriptor_pb2.FileDescriptorProto.FromString(data)
                for data in answer.file_descriptor_response.file_descriptor_proto
            ]
            assert ours.rpartition(".")[2] in {service.name for file in files for service in file.service}


def _token_of(run) -> str:
    """The token as this process holds it: threads' runs write none to a file."""
    from kourou.runtime.context import context

    return context.binding_of(run.run_id, "").token


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_calls_without_the_token_are_refused_by_nodes_and_by_the_coordinator(launch_type, running):
    # Given a running program.
    program, handle = _program()
    run = running(program, launch_type)
    endpoint = _endpoints(run)["server/0"]
    assert handle.dereference().ping() == "pong"
    for wrong in ("0" * 64, ""):
        # When a node is called with another token, then it refuses.
        client = lp.CourierClient(endpoint["grpc"], token=wrong or "x", timeout_s=WAIT_S)
        with pytest.raises(lp.errors.Unauthenticated):
            client.ping()
        courier.close(client)
        # When the coordinator is called so, then it refuses as well.
        coordinator = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))["coordinator"]
        metadata = [("kourou-token", wrong)] if wrong else []
        with grpc.insecure_channel(coordinator) as channel:
            for method in ("Stop", "Status", "Follow", "Attach"):
                call: Any = channel.unary_unary(f"/kourou.v1.Coordinator/{method}")
                with pytest.raises(grpc.RpcError) as refused:
                    call(pb.StopRequest(reason="hostile").SerializeToString(), timeout=WAIT_S, metadata=metadata)
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not lp.wait_for_stop(0)


def test_the_token_is_in_no_command_line_and_in_no_environment(running, runs_dir):
    # Given a running program whose node started a process of its own.
    class Parent:
        def __init__(self):
            self.child = subprocess.Popen(["sleep", "60"])

        def pid(self):
            return self.child.pid

    program = lp.Program("token")
    handle = program.add_node(lp.CourierNode(Parent), label="parent")
    run = running(program, "local_mp")
    child = handle.dereference().pid()
    token = (run.folder / "token").read_text(encoding="ascii")
    assert len(token) >= 32
    # When all of its processes are looked at.
    processes = marked(runs_dir)
    assert {child, run.nodes["parent/0"].pid} < {process.pid for process in processes}
    # Then none shows it, and the plan and other files that outlive the run do not hold it either.
    for process in [*processes, psutil.Process()]:
        for name in ("cmdline", "environ"):
            assert token.encode() not in Path(f"/proc/{process.pid}/{name}").read_bytes(), process
    files = [path for path in run.folder.rglob("*") if path.is_file() and path.name != "token"]
    assert files
    assert not [path for path in files if token.encode() in path.read_bytes()]


def test_servers_listen_on_loopback_only(running):
    program, _ = _program()
    run = running(program, "local_mp")
    _endpoints(run)
    listening = [
        connection.laddr.ip.removeprefix("::ffff:")  # how a socket for both versions of IP shows the older one
        for process in [psutil.Process(), *(psutil.Process(record.pid) for record in run.nodes.values())]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 4  # three nodes and the coordinator
    assert set(listening) <= {"127.0.0.1", "::1"}
