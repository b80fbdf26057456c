"""Asking for nodes to come or go: from nodes in other processes, and from other shells.

What is asked for takes the launcher a while (it pickles nodes, writes files), and the coordinator's thread waits for
nobody. So the same question is asked until it has an answer, under a number of its own, and carried out once.
"""

from __future__ import annotations

import pickle
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from kourou import errors, threads
from kourou.courier.wire import codec
from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.model.resize import Resize

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.25
_MOST_KEPT = 100


def to_proto(resize: Resize, origin: str) -> pb.ResizeRequest:
    """What is sent, under a new number.

    Raises:
        SerializationError: the node cannot be pickled.
    """
    node = b""
    if resize.node is not None:
        body, buffers = codec.encode(resize.node, "the node to be added")
        stream = b"".join(body) if isinstance(body, tuple) else bytes(body)
        node = pickle.dumps((stream, [*map(bytearray, buffers)]))
    return pb.ResizeRequest(
        id=secrets.token_hex(8), origin=origin, label=resize.label, count=resize.count, node=node, names=resize.names
    )


def from_proto(message: pb.ResizeRequest) -> Resize:
    """The inverse of :func:`to_proto`."""
    node = codec.decode(*pickle.loads(message.node)) if message.node else None
    return Resize(label=message.label, count=message.count, node=node, names=tuple(message.names))


def ask_for(resize: Resize, origin: str, call: Callable[[pb.ResizeRequest], pb.ResizeReply]) -> tuple[str, ...]:
    """Ask until there is an answer: the names of those that come or go.

    Raises:
        KourouError: it was refused.
    """
    request = to_proto(resize, origin)
    pause_s = _FIRST_PAUSE_S
    while not (reply := call(request)).done:
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    if reply.error:
        kind = getattr(errors, reply.error_type, errors.LaunchError)
        raise kind(reply.error)
    return tuple(reply.names)


class Resizes:
    """What was asked for, and how far that is. For the coordinator's thread.

    Args:
        carry_out: does it, in a thread of its own.
    """

    def __init__(self, carry_out: Callable[[Resize, str], tuple[str, ...]]) -> None:
        self._carry_out = carry_out
        self._asked: dict[str, Future[tuple[str, ...]]] = {}
        self._told: dict[str, None] = {}  # those that were answered; an answer may be lost, and be asked for again

    def answer(self, request: pb.ResizeRequest) -> pb.ResizeReply:
        """What is known by now."""
        future = self._asked.get(request.id)
        if future is None:
            future = self._asked[request.id] = Future()
            work = threading.Thread(target=self._run, args=(request, future), name="kourou-resizing", daemon=True)
            try:
                threads.start(work)
            except errors.LaunchError as refusal:
                future.set_exception(refusal)
        if not future.done():
            return pb.ResizeReply()
        self._told[request.id] = None
        while len(self._told) > _MOST_KEPT:
            del self._asked[oldest := next(iter(self._told))], self._told[oldest]
        error = future.exception()
        if error is None:
            return pb.ResizeReply(done=True, names=future.result())
        return pb.ResizeReply(done=True, error_type=type(error).__name__, error=str(error) or repr(error))

    def _run(self, request: pb.ResizeRequest, future: Future[tuple[str, ...]]) -> None:
        try:
            future.set_result(self._carry_out(from_proto(request), request.origin))
        except Exception as error:  # noqa: BLE001 - who asked is told
            future.set_exception(error)
