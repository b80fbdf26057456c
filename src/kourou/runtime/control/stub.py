"""Calling a coordinator over gRPC: one channel, the run's token, errors of our own. For nodes and for other shells."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import grpc

from kourou import errors
from kourou.courier.lanes.grpcio import process
from kourou.courier.lanes.ports import is_itself
from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.control.service import SERVICE, TOKEN_KEY

__all__ = ["CoordinatorStub"]

_CALL_S = 10.0  # the coordinator only changes tables, so longer means that it is gone, or suspended
_PASSING = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


class CoordinatorStub:
    """The methods of a coordinator in another process.

    Args:
        address: its ``host:port``.
        token: the run's token.
        caller: who calls, for messages.
        wait_for_ready: wait for a coordinator that is not there yet; False fails at once.
    """

    def __init__(self, address: str, *, token: str, caller: str, wait_for_ready: bool) -> None:
        self._address = address
        self._caller = caller
        self._metadata = ((TOKEN_KEY, token),)
        self._wait_for_ready = wait_for_ready
        self._channel = process.open_channel(address)

    def is_listening(self) -> bool:
        """Whether anybody holds the coordinator's address, be it a process that is suspended."""
        kind, _, path = self._address.partition(":")
        host, _, port = self._address.rpartition(":")
        family, address = (socket.AF_UNIX, path) if kind == "unix" else (socket.AF_INET, (host, int(port)))
        with socket.socket(family) as probe:
            probe.settimeout(_CALL_S)
            return probe.connect_ex(address) == 0 and (kind == "unix" or not is_itself(probe))

    def attach(self, request: pb.AttachRequest) -> Any:
        """The stream of events."""
        call = self._channel.unary_stream(
            f"/{SERVICE}/Attach",
            request_serializer=pb.AttachRequest.SerializeToString,
            response_deserializer=pb.Event.FromString,
        )
        return call(request, metadata=self._metadata, wait_for_ready=True)

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
            UsedAfterFork: this process is a child of the one that made the channel.
        """
        process.claim()
        call = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )
        while True:
            try:
                return call(request, metadata=self._metadata, timeout=_CALL_S, wait_for_ready=self._wait_for_ready)
            except grpc.RpcError as error:
                if error.code() in _PASSING and persist():
                    continue
                text = f"{self._caller}: the coordinator did not take {method}: {error.details()}"
                if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                    raise errors.Unauthenticated(text) from None
                raise errors.ServerUnavailable(text) from None

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()
