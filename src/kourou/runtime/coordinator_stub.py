"""Calling a coordinator over gRPC: one channel, the run's token, errors of our own. For nodes and for other shells."""

from __future__ import annotations

from typing import Any

import grpc

from kourou import errors
from kourou.courier.lanes import grpc_process
from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.coordinator_service import SERVICE, TOKEN_KEY

__all__ = ["CoordinatorStub"]

_CALL_S = 10.0  # the coordinator only changes tables, so longer means that it is gone


class CoordinatorStub:
    """The methods of a coordinator in another process.

    Args:
        address: its ``host:port``.
        token: the run's token.
        caller: who calls, for messages.
        wait_for_ready: wait for a coordinator that is not there yet; False fails at once.
    """

    def __init__(self, address: str, *, token: str, caller: str, wait_for_ready: bool) -> None:
        self._caller = caller
        self._metadata = ((TOKEN_KEY, token),)
        self._wait_for_ready = wait_for_ready
        grpc_process.claim()
        self._channel = grpc.insecure_channel(address, options=[("grpc.enable_retries", 0)])

    def attach(self, request: pb.AttachRequest) -> Any:
        """The stream of events."""
        call = self._channel.unary_stream(
            f"/{SERVICE}/Attach",
            request_serializer=pb.AttachRequest.SerializeToString,
            response_deserializer=pb.Event.FromString,
        )
        return call(request, metadata=self._metadata, wait_for_ready=True)

    def call(self, method: str, request: Any, reply: Any = pb.Ack) -> Any:
        """Call a method and return its reply, of the class ``reply``.

        Raises:
            Unauthenticated: the token is another run's.
            ServerUnavailable: it did not answer.
            UsedAfterFork: this process is a child of the one that made the channel.
        """
        grpc_process.claim()
        call = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )
        try:
            return call(request, metadata=self._metadata, timeout=_CALL_S, wait_for_ready=self._wait_for_ready)
        except grpc.RpcError as error:
            text = f"{self._caller}: the coordinator did not take {method}: {error.details()}"
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise errors.Unauthenticated(text) from None
            raise errors.ServerUnavailable(text) from None

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()
