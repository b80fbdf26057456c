"""gRPC's own poller comes with its first object and goes with the last: to a test it would look like a leak."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest


@pytest.fixture(scope="session", autouse=True)
def _grpc_is_up() -> Iterator[None]:
    """Keep it open for the session."""
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        with contextlib.suppress(grpc.RpcError):
            call: Any = channel.unary_unary("/nobody/there")
            call(b"", timeout=1)
        yield
