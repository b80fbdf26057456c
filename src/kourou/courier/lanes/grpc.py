"""The lane between hosts, client side: one bidirectional gRPC stream, on which calls under load share packets."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import grpc

from kourou.courier.endpoint import Endpoint
from kourou.courier.frames import Frame, FrameParser, pack
from kourou.courier.lanes import grpc_process
from kourou.courier.lanes.packets import Outbox, unpack_packet
from kourou.courier.target import Tls
from kourou.courier.wire import PushingWire, Receiver
from kourou.errors import ProtocolError, RpcError, ServerUnavailable, Unauthenticated

__all__ = ["CHANNEL_OPTIONS", "SERVICE", "TOKEN_KEY", "GrpcWire", "describe", "dial"]

SERVICE = "kourou.v1.Courier"
TOKEN_KEY = "kourou-token"  # noqa: S105 - the name of the metadata, not the secret
_DIAL_S = 5.0  # seconds that a server may take to accept, where the caller gave no deadline

CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for each channel, for they carry bulk
    ("grpc.http2.bdp_probe", 1),
    ("grpc.enable_retries", 0),  # kourou never repeats a call behind its caller's back
)


class GrpcWire(PushingWire):
    """See ``kourou.courier.wire.Wire``."""

    lane = "grpc"

    def __init__(self, endpoint: Endpoint, token: str, tls: Tls | None = None) -> None:
        self._address = endpoint.grpc
        self._channel = _channel(self._address, tls)
        self._outbox = Outbox()
        self._parser = FrameParser()
        connect: Any = self._channel.stream_stream(f"/{SERVICE}/Connect")
        self._call: Any = connect(self._outbox.packets(), metadata=_metadata(token))
        self._accepted = threading.Event()
        self._started = threading.Event()
        self._refusal: Exception | None = None
        self._receiver: Receiver | None = None
        threading.Thread(target=self._read, name="kourou-grpc-read", daemon=True).start()

    def handshake(self, timeout_s: float | None) -> None:
        """Wait until the server has accepted the stream.

        Raises:
            ServerUnavailable: nothing answers there.
            Unauthenticated: the token is wrong.
        """
        if not self._accepted.wait(_DIAL_S if timeout_s is None else timeout_s):
            self.close()
            raise ServerUnavailable(f"{self._address} did not answer in time")
        if self._refusal is not None:
            self.close()
            raise self._refusal

    def start(self, receiver: Receiver) -> None:
        """See ``Wire``."""
        self._receiver = receiver
        self._started.set()

    def send(self, frame: Frame, *, caller_waits: bool = False, may_gather: bool = False) -> None:
        """See ``Wire``."""
        del caller_waits, may_gather  # gRPC sends from a thread of its own in any case
        self._outbox.put(pack(frame))

    def close(self) -> None:
        """See ``Wire``."""
        self._outbox.close()
        self._started.set()
        self._call.cancel()
        self._channel.close()

    def _read(self) -> None:
        """The reader thread: from the first sign of the server to the end of the stream."""
        error: Exception = ConnectionResetError(f"{self._address} ended the stream")
        try:
            next(self._call)  # the server greets, with an empty packet, those whose token is right
            self._accepted.set()
            self._started.wait()
            if self._receiver is None:
                return
            for message in self._call:
                frames = self._parser.feed(unpack_packet(message))
                if frames:
                    self._receiver.deliver(frames)
        except grpc.RpcError as failure:
            error = _status(failure, self._address)
        except ProtocolError as failure:
            error = failure
        except StopIteration:
            pass
        finally:
            if not self._accepted.is_set():
                self._refusal = error if isinstance(error, RpcError) else ServerUnavailable(str(error))
            self._accepted.set()
            if self._receiver is not None:
                # Only what the server said on purpose is passed on; all else is for the target to explain.
                self._receiver.end(error if isinstance(error, ProtocolError) else ConnectionResetError(str(error)))


def dial(endpoint: Endpoint, token: str, timeout_s: float | None, tls: Tls | None = None) -> GrpcWire:
    """Connect.

    Raises:
        ServerUnavailable: nothing answers there.
        Unauthenticated: the token is wrong.
    """
    wire = GrpcWire(endpoint, token, tls)
    wire.handshake(timeout_s)
    return wire


def describe(address: str, token: str, timeout_s: float | None, tls: Tls | None = None) -> Endpoint:
    """Ask the server at an address what it is.

    Raises:
        ServerUnavailable: nothing answers there.
        Unauthenticated: the token is wrong.
    """
    from kourou.proto.v1 import courier_pb2  # noqa: PLC0415 - protobuf is needed for nothing else here

    with contextlib.closing(_channel(address, tls)) as channel:
        ask: Any = channel.unary_unary(f"/{SERVICE}/Describe", response_deserializer=courier_pb2.Description.FromString)
        try:
            found = ask(b"", timeout=_DIAL_S if timeout_s is None else timeout_s, metadata=_metadata(token))
        except grpc.RpcError as error:
            raise _status(error, address) from None
    return Endpoint(
        server_id=found.server_id, pid=found.pid, host_id=found.host_id, grpc=address, local=found.local or None
    )


def _channel(address: str, tls: Tls | None) -> grpc.Channel:
    grpc_process.claim()
    if tls is None:
        return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
    credentials = grpc.ssl_channel_credentials(tls) if isinstance(tls, bytes) else tls
    return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return ((TOKEN_KEY, token),)


def _status(error: Any, address: str) -> RpcError:
    """The one place where gRPC's status codes become errors of kourou."""
    code, details = error.code(), error.details() or ""
    if code == grpc.StatusCode.UNAUTHENTICATED:
        return Unauthenticated(f"{address}: {details}")
    if code == grpc.StatusCode.INVALID_ARGUMENT:
        return ProtocolError(f"{address}: {details}")
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServerUnavailable(f"{address} did not answer in time")
    return ServerUnavailable(f"{address}: {code.name.lower()}: {details}")
