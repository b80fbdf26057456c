"""The coordinator, as a node in another process sees it."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

from kourou import errors, threads
from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.context.context import ControlPlane
from kourou.runtime.control import messages
from kourou.runtime.control.directory import Directory
from kourou.runtime.control.node_events import Release, Stop
from kourou.runtime.control.resizing import ask_for
from kourou.runtime.control.stub import CoordinatorStub, Events
from kourou.runtime.interpreter.thread_interrupts import shielded
from kourou.runtime.model.names import label_of
from kourou.runtime.model.records import NodeRecord, Outcome, shortened
from kourou.runtime.model.resize import Resize

_ATTACH_S = 30.0  # under a start of hundreds of nodes it may have a lot to do
_TAKEN_S = 10.0  # the coordinator only changes tables: longer means that it is suspended
_PAUSE_S = 0.1  # from a call that broke to the next one: the stream's end may be noticed a moment later


class CoordinatorClient(ControlPlane):
    """The :class:`~kourou.runtime.context.context.ControlPlane` of a node process.

    What becomes of a node is said on its stream, and it does not wait until that is taken, but at its end. A launcher
    that does not answer is suspended (by Ctrl-Z, a debugger, swapping), or gone, and then the stream ends.

    Args:
        on_stop: called when the program stops.
        on_release: called when nodes that only serve may go; with who had this one removed, if it is for it alone.
        on_lost: called when the coordinator is gone.
        on_record: called with every record of a node that this one follows.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str,
        name: str,
        attempt: int,
        on_stop: Callable[[], None],
        on_release: Callable[[str], None],
        on_lost: Callable[[], None],
        on_record: Callable[[NodeRecord], None] = lambda _: None,
    ) -> None:
        self._name = name
        self._attempt = attempt
        self._stub = CoordinatorStub(address, token=token, caller=name, wait_for_ready=True)
        self._directory = Directory()
        self._following: set[str] = set()
        self._groups: set[str] = set()  # those of which it is told
        self._on_stop = on_stop
        self._on_release = on_release
        self._on_lost = on_lost
        self._on_record = on_record
        self._closed = False
        self._lost = threading.Event()
        self._attached = threading.Event()
        self._stream: Events | None = None
        self._listener = threading.Thread(target=self._listen, name="kourou-events", daemon=True)

    def attach(self) -> None:
        """Say that this node is there, and listen from now on.

        Raises:
            ServerUnavailable: the coordinator does not answer.
            LaunchError: there is no thread to listen; how the node ended can be said nevertheless.
        """
        silent = f"{self._name}: the coordinator did not answer within {_ATTACH_S:g} s"
        try:
            words = pb.Words(attach=pb.Attach(name=self._name, attempt=self._attempt))
            self._stream = self._stub.attach(words, _ATTACH_S)
        except errors.ServerUnavailable as error:
            raise errors.ServerUnavailable(f"{silent}: {error}") from None
        threads.start(self._listener)
        while not self._attached.wait(_ATTACH_S):
            if not self._lost.is_set() and self._stub.is_listening():
                continue  # the kernel answers for a process that is suspended
            raise errors.ServerUnavailable(silent)

    def update(self, name: str, **changes: Any) -> None:
        self._say(messages.changes_to_proto(name, changes))

    def wait(self, name: str, holds: Callable[[NodeRecord], bool], timeout_s: float | None = None) -> NodeRecord | None:
        if name not in self._following:
            self._call("Follow", pb.FollowRequest(follower=self._name, name=name))
            self._following.add(name)
        return self._directory.wait(name, holds, timeout_s)

    def members(self, label: str) -> list[NodeRecord]:
        if label not in self._groups:
            request = pb.FollowRequest(follower=self._name, name=label)
            for message in self._call("FollowGroup", request, pb.Records).records:
                self._directory.add(messages.record_from_proto(message))  # what came through the stream may be newer
            self._groups.add(label)
        return self._directory.members(label)

    def request_stop(self, reason: str) -> None:
        self._call("Stop", pb.StopRequest(reason=shortened(reason), origin=self._name))

    def resize(self, resize: Resize) -> tuple[str, ...]:
        """Ask for nodes to come or go; who they are. Groups that are followed have changed by then."""

        def call(request: pb.ResizeRequest) -> pb.ResizeReply:
            reply: pb.ResizeReply = self._stub.call(
                "Resize", request, pb.ResizeReply, persist=lambda: self._may_answer_yet("Resize")
            )
            return reply

        before = {record.name for record in self._directory.all()}
        names = ask_for(resize, self._name, call)
        for name in names:
            if label_of(name) in self._groups:
                self._directory.wait(name, lambda r: r.name not in before or r.gone or bool(r.removed), _ATTACH_S)
        return names

    def report(self, name: str, outcome: Outcome) -> None:
        """The last words of this node, or of a child that it runs."""
        self._say(messages.outcome_to_proto(name, outcome))

    def close(self) -> None:
        """That was all: wait until the coordinator has taken it, and listen no more."""
        self._closed = True
        if self._stream is not None:
            with contextlib.suppress(errors.KourouError):  # it is gone, or this is a child of fork
                self._stub.check_process()
                self._stream.end()
                if self._listener.ident is None:  # it could not be started
                    self._listen()
                while not self._lost.wait(_TAKEN_S) and self._stub.is_listening():
                    self._say_suspended("its last words")
            self._stream.cancel()
        self._stub.close()

    def _say(self, words: pb.Words) -> None:
        """Say something on the stream, whatever exception this thread is to be interrupted with.

        Raises:
            ServerUnavailable: the coordinator is gone.
        """
        self._stub.check_process()
        if self._stream is None:
            raise errors.ServerUnavailable(f"{self._name} is not attached to the coordinator")
        try:
            with shielded():
                self._stream.say(words)
        except errors.ServerUnavailable:
            if not self._closed:
                raise

    def _call(self, method: str, request: Any, reply: Any = pb.Ack) -> Any:
        try:
            return self._stub.call(method, request, reply, persist=lambda: self._may_answer_yet(method))
        except errors.ServerUnavailable:
            if not self._closed:
                raise
            return reply()

    def _may_answer_yet(self, method: str) -> bool:
        if self._stream is None or self._lost.wait(_PAUSE_S) or self._closed:
            return False
        self._say_suspended(method)
        return True

    def _say_suspended(self, what: str) -> None:
        print(  # noqa: T201 - for the log of a node that seems to hang
            f"kourou: {self._name} waits for its launcher to take {what}: is it suspended?", file=sys.stderr
        )

    def _listen(self) -> None:
        assert self._stream is not None  # noqa: S101 - set before
        for message in self._stream:
            event = messages.event_from_proto(message)
            if isinstance(event, NodeRecord):
                self._directory.put(event)
                self._on_record(event)
            elif isinstance(event, Stop):
                self._on_stop()
            elif isinstance(event, Release):
                self._on_release(event.removed)
            else:
                self._attached.set()
        self._lost.set()
        if not self._closed:
            self._on_lost()
