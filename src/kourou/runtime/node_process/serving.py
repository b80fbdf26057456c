"""Serving while a node lives: the gRPC server that every node hosts, and its announcement."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from kourou import errors
from kourou.courier import Server
from kourou.runtime.context.context import NodeContext, enter_node
from kourou.runtime.interpreter.thread_interrupts import shielded
from kourou.runtime.model.records import NodeState
from kourou.runtime.node_process import metering


class NodeServer(Server):
    """A node's server: whoever starts it, and whenever that is, announces the node."""

    def __init__(self, context: NodeContext, **options: Any) -> None:
        options = {**context.server_options, **options}
        super().__init__(name=context.name, call_context=lambda: enter_node(context), refusal=self._refusal, **options)
        self._context = context

    def _refusal(self, text: str) -> errors.RpcError | None:
        """Nobody who called a node that ends by itself, or was removed, shall think that the program stops."""
        stop = self._context.stop
        if stop.removed:
            return errors.NodeRemoved(
                f"{text}: {self._context.name} was removed from the running program ({stop.removed})"
            )
        if stop.ends_program:
            return errors.CallCancelled(text)
        return None  # how it ended, and whether it starts again, the program tells those whose connection breaks

    def start(self) -> None:
        """Listen on every lane, then tell the program: the node is READY, and here it is."""
        with shielded():
            super().start()
            self._context.publish(state=NodeState.READY, endpoint=self.endpoint.to_json())

    Start = start


def node_server(context: NodeContext, **options: Any) -> Server:
    """The node's server, not started: it knows the run's token, and its handlers run as this node."""
    server = NodeServer(context, **options)
    metering.install(server, context)
    return server


@contextlib.contextmanager
def serve(context: NodeContext, server: Server | None = None, *, start: bool = True) -> Iterator[Server]:
    """While entered, the node is READY and its server answers (health and reflection, if it has no methods).

    Args:
        context: the node.
        server: from :func:`node_server`; None makes one.
        start: False leaves the start, and with it the announcement, to the body.
    """
    server = server or node_server(context)
    try:
        if start and not server.has_started:
            server.start()
        yield server
    finally:  # a thread is interrupted twice at most, so one of three attempts is not
        try:
            _close(server)
        finally:
            try:
                _close(server)
            finally:
                _close(server)


def _close(server: Server) -> None:
    with shielded():
        if server.has_started:
            with _closing.acquired():
                server.stop()


class _ConcurrencyLimit:
    """Lets a few threads at a time do what hundreds want to do at once.

    Each thread that waits for the interpreter's lock wakes up every few milliseconds to ask for it, so that hundreds of
    them take far more time than their work does. Nobody waits for long if those before wait for something themselves.
    """

    def __init__(self, at_once: int, patience_s: float) -> None:
        self._free = threading.Semaphore(at_once)
        self._patience_s = patience_s
        self._moved_at = 0.0

    @contextlib.contextmanager
    def acquired(self) -> Iterator[None]:
        """Have one's turn in the body."""
        came_at = time.monotonic()
        while not (has_turn := self._free.acquire(timeout=self._patience_s)):
            if time.monotonic() > max(came_at, self._moved_at) + self._patience_s:
                break
        try:
            yield
        finally:
            self._moved_at = time.monotonic()
            if has_turn:
                self._free.release()


_closing = _ConcurrencyLimit(8, 0.5)
