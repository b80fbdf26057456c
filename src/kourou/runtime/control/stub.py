"""Calling a coordinator: the run's token, deadlines, errors of our own. For nodes and for other shells."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from kourou import errors
from kourou.courier.core.protocol import TOKEN_KEY
from kourou.courier.lanes.grpc.asking import MessageStream, ask
from kourou.courier.lanes.grpc.channel import Channel
from kourou.courier.lanes.http2 import tcp
from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.control.messages import SERVICE

_CALL_S = 10.0  # the coordinator only changes tables, so longer means that it is gone, or suspended
_PAUSE_S = 0.05  # between two attempts to connect
_MOST_BYTES = 1 << 30  # of an answer: the other end is the run's own, and its status grows with its nodes


class CoordinatorStub:
    """The methods of a coordinator in another process.

    Args:
        wait_for_ready: wait for a coordinator that is not there yet; False fails at once.
    """

    def __init__(self, address: str, *, token: str, caller: str, wait_for_ready: bool) -> None:
        self._address = address
        self._caller = caller
        self._token = (TOKEN_KEY, token)
        self._wait_for_ready = wait_for_ready
        self._owner = os.getpid()
        self._closed = threading.Event()

    def is_listening(self) -> bool:
        """Whether anybody holds the coordinator's address, be it a process that is suspended."""
        try:
            tcp.connect(self._address, _CALL_S, None).close()
        except OSError:
            return False
        return True

    def attach(self, request: pb.Words, timeout_s: float) -> Events:
        """The events from now on.

        Raises:
            ServerUnavailable: nobody listens there.
        """
        return Events(MessageStream(self._open("Attach", timeout_s), request.SerializeToString()))

    def call(self, method: str, request: Any, reply: Any = pb.Ack, *, persist: Callable[[], bool] = bool) -> Any:
        """Call a method and return its reply, of the class ``reply``.

        Args:
            method: its name.
            request: what it is called with.
            reply: the class of its answer.
            persist: asked when there was no answer in time; True calls once more. All methods may be called twice.

        Raises:
            Unauthenticated: the token is another run's.
            ServerUnavailable: it did not answer.
            UsedAfterFork: this process is a child of the one that made the stub.
        """
        self.check_process()
        while True:
            channel = None
            try:
                channel = self._open(method, _CALL_S)
                return reply.FromString(ask(channel, request.SerializeToString(), _MOST_BYTES))
            except errors.RpcError as error:
                has_answer = channel is not None and channel.http2.end is not None
                if not has_answer and persist():
                    continue
                text = f"{self._caller}: the coordinator did not take {method}: {error}"
                if isinstance(error, errors.Unauthenticated):
                    raise errors.Unauthenticated(text) from None
                raise errors.ServerUnavailable(text) from None

    def check_process(self) -> None:
        """See that this is the process that the coordinator knows.

        Raises:
            UsedAfterFork: it is a child of the one that made the stub.
        """
        if os.getpid() != self._owner:
            raise errors.UsedAfterFork(
                f"process {os.getpid()} was forked from {self._caller}, process {self._owner}, which the "
                "coordinator knows instead: ask there, or in a process started by spawn or forkserver"
            )

    def close(self) -> None:
        """Wait no more for a coordinator that is not there."""
        self._closed.set()

    def _open(self, method: str, timeout_s: float) -> Channel:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return Channel(f"/{SERVICE}/{method}", self._address, self._token, deadline - time.monotonic())
            except errors.ServerUnavailable:
                if not self._wait_for_ready or time.monotonic() + _PAUSE_S > deadline or self._closed.wait(_PAUSE_S):
                    raise


class Events:
    """What a coordinator tells a node, until the stream ends. One thread iterates; any may say something, or cancel."""

    def __init__(self, messages: MessageStream) -> None:
        self._messages = messages
        self.end = messages.end
        self.cancel = messages.cancel

    def say(self, words: pb.Words) -> None:
        """Tell the coordinator; what is said is taken in its order.

        Raises:
            ServerUnavailable: it is gone.
        """
        self._messages.say(words.SerializeToString())

    def __iter__(self) -> Iterator[pb.Event]:
        with contextlib.suppress(errors.RpcError):  # that it ends says the same
            for message in self._messages:
                yield pb.Event.FromString(message)
