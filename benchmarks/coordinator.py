"""The coordinator of many nodes, as JSON lines: real server and protocol; the nodes are simulated, in few processes.

Every node has a connection of its own, attaches, says that it is READY, and follows the first one. Metrics, for each N
of ``--nodes``: coordinator.N_ready_s (from the first connection until all are READY and follow), coordinator.N_kib
(memory per node), coordinator.N_threads, coordinator.N_cpu_us (of the coordinator, per node), coordinator.N_change_s (a
change of the node that all follow, until all have heard of it), coordinator.N_stop_s (until all have heard of a stop),
coordinator.N_stop_cpu_us (of the coordinator, per node), coordinator.N_players_cpu_us (of those who play the nodes).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import hpack
from google.protobuf.message import Message

from kourou.courier.core.protocol import TOKEN_KEY
from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.control.coordinator import Coordinator
from kourou.runtime.control.messages import SERVICE
from kourou.runtime.control.service import CoordinatorServer
from kourou.runtime.model.records import NodeRecord, NodeState
from kourou.runtime.model.status import RunState, RunStatus

TOKEN = "benchmark"  # noqa: S105 - guards nothing
WITHIN_S = 300.0
HEAD = struct.Struct(">IBI")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_STREAM, END_HEADERS = 1, 4
CONNECTING_AT_ONCE = 64  # of one process


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Of HTTP/2."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


class SimulatedNode:
    """One connection, without a library of gRPC, whose memory and time would be most of what is measured."""

    def __init__(self, index: int, address: tuple[str, int]) -> None:
        self.name = f"node/{index}"
        self.welcomed = self.following = self.stopped = False
        self.changes = 0  # of the node that all follow
        self._encoder = hpack.Encoder()
        self._calls = 0
        self._rest = b""
        self.socket = socket.create_connection(address)
        attach = pb.Words(attach=pb.Attach(name=self.name, attempt=1))
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0) + self._call("Attach", attach, last=False))
        self.socket.setblocking(False)

    def _call(self, method: str, message: Message, *, last: bool = True) -> bytes:
        stream = 2 * self._calls + 1
        self._calls += 1
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", f"/{SERVICE}/{method}"),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            (TOKEN_KEY, TOKEN),
        ]
        block: bytes = self._encoder.encode(headers, huffman=False)  # as gRPC's own clients do
        return frame(HEADERS, END_HEADERS, stream, block) + self._body(stream, message, last=last)

    @staticmethod
    def _body(stream: int, message: Message, *, last: bool) -> bytes:
        data: bytes = message.SerializeToString()
        return frame(DATA, END_STREAM if last else 0, stream, struct.pack(">BI", 0, len(data)) + data)

    def read(self) -> None:
        """Act on what has come."""
        data = self._rest + self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError(f"{self.name} lost the coordinator")
        position = 0
        while len(data) - position >= HEAD.size:
            kind, flags, stream = HEAD.unpack_from(data, position)
            end = position + HEAD.size + (kind >> 8)
            if end > len(data):
                break
            self._take(kind & 0xFF, flags, stream, data[position + HEAD.size : end])
            position = end
        self._rest = data[position:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in {SETTINGS, PING} and not flags & 1:
            self.socket.send(frame(kind, 1, 0, payload if kind == PING else b""))
        elif kind == DATA and stream == 1:
            while payload:
                size = struct.unpack_from(">I", payload, 1)[0]
                self._hear(pb.Event.FromString(payload[5 : 5 + size]))
                payload = payload[5 + size :]
        elif kind == HEADERS and flags & END_STREAM and stream == 3:
            self.following = True

    def _hear(self, event: pb.Event) -> None:
        kind = event.WhichOneof("kind")
        if kind == "welcome":
            self.welcomed = True
            ready = pb.Words(update=pb.Update(name=self.name, state="READY", endpoint="{}" * 50))
            follow = pb.FollowRequest(follower=self.name, name="node/0")
            self.socket.send(self._body(1, ready, last=False) + self._call("Follow", follow))
        elif kind == "record":
            self.changes = max(self.changes, event.record.pid)
        elif kind == "stop":
            self.stopped = True


class Player:
    """Plays many nodes."""

    def __init__(self, first: int, count: int, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._indices = list(range(first, first + count))
        self._poller = select.epoll()
        self._nodes: dict[int, SimulatedNode] = {}

    def start(self) -> None:
        """Let all be READY."""
        connecting: set[SimulatedNode] = set()
        following: set[SimulatedNode] = set()
        while self._indices or len(following) < len(self._nodes):
            while self._indices and len(connecting) < CONNECTING_AT_ONCE:
                node = SimulatedNode(self._indices.pop(), self._address)
                self._nodes[node.socket.fileno()] = node
                self._poller.register(node.socket, select.EPOLLIN)
                connecting.add(node)
            heard = self._read()
            connecting -= {node for node in heard if node.welcomed}
            following |= {node for node in heard if node.following}

    def hear(self, of_it: Callable[[SimulatedNode], bool]) -> None:
        """Read until all nodes have heard of it."""
        left = {node for node in self._nodes.values() if not of_it(node)}
        while left:
            left -= {node for node in self._read() if of_it(node)}

    def _read(self) -> list[SimulatedNode]:
        heard = [self._nodes[descriptor] for descriptor, _ in self._poller.poll(0.1)]
        for node in heard:
            node.read()
        return heard


def play(first: int, count: int, address: str) -> None:
    """A process of nodes; each step begins with a line of standard input and is answered when all are there."""
    player = Player(first, count, address)
    steps: list[Callable[[], object]] = [
        lambda: None,  # it has imported what it needs
        player.start,
        lambda: player.hear(lambda node: node.changes > 0),
        lambda: player.hear(lambda node: node.stopped),
        lambda: None,  # it ends
    ]
    for step in steps:
        sys.stdin.readline()
        step()
        print("done", flush=True)


def resident_kib() -> int:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() // 1024


def measure(nodes: int, processes: int) -> dict[str, float]:
    """Serve so many nodes."""
    names = [f"node/{index}" for index in range(nodes)]
    ready: set[str] = set()
    coordinator = Coordinator(
        [NodeRecord(name=name, attempt=1, state=NodeState.STARTING, host="localhost") for name in names],
        on_change=lambda record: ready.add(record.name) if record.state is NodeState.READY else None,
        tell_director=lambda _: None,
    )
    status = RunStatus(
        run_id="", program="", launch_type="", state=RunState.RUNNING, stop_reason="", nodes=(), started_at=0.0
    )
    before_kib = resident_kib()
    server = CoordinatorServer(coordinator, token=TOKEN, status=lambda: status)
    each = -(-nodes // processes)
    with contextlib.ExitStack() as stack:
        stack.callback(server.close)
        players = [
            stack.enter_context(_player(first, min(each, nodes - first), server.address))
            for first in range(0, nodes, each)
        ]
        found: dict[str, float] = {}
        _step(players)
        cpu_s = time.process_time()
        found["ready_s"] = _step(players)
        found["cpu_us"] = (time.process_time() - cpu_s) / nodes * 1e6
        assert len(ready) == nodes
        found["kib"] = (resident_kib() - before_kib) / nodes
        found["threads"] = threading.active_count()
        found["change_s"] = _step(players, lambda: coordinator.change("node/0", pid=1))
        cpu_s = time.process_time()
        found["stop_s"] = _step(players, lambda: coordinator.broadcast_stop("benchmark"))
        found["stop_cpu_us"] = (time.process_time() - cpu_s) / nodes * 1e6
        _step(players)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    found["players_cpu_us"] = (spent.ru_utime + spent.ru_stime) / nodes * 1e6
    return found


def _player(first: int, count: int, address: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--play", str(first), str(count), address]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _step(players: list[subprocess.Popen[str]], act: Callable[[], object] = lambda: None) -> float:
    """Let all players take their next step: how long it took."""
    for player in players:
        _pipe(player.stdin).write("go\n")
        _pipe(player.stdin).flush()
    started = time.monotonic()
    act()
    for player in players:
        if _pipe(player.stdout).readline() != "done\n":
            raise SystemExit("a process of simulated nodes failed")
    return time.monotonic() - started


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--processes", type=int, default=2, help="that play the nodes")
    parser.add_argument("--play", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if arguments.play:
        first, count, address = arguments.play
        play(int(first), int(count), address)
        return
    for nodes in arguments.nodes:
        if len(arguments.nodes) > 1:  # each in a process of its own: memory that was given back is used again
            command = [sys.executable, __file__, "--nodes", str(nodes), "--processes", str(arguments.processes)]
            subprocess.run(command, check=True, timeout=WITHIN_S, env=dict(os.environ))
            continue
        for name, value in measure(nodes, arguments.processes).items():
            print(json.dumps({"metric": f"coordinator.{nodes}_{name}", "value": round(value, 4)}), flush=True)


if __name__ == "__main__":
    main()
