"""What the runtime's tests share."""

from grpc_poller import _grpc_is_up

__all__ = ["_grpc_is_up"]
