"""gRPC's own poller comes with its first object and goes with the last: to a test it would look like a leak."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest


def _keep_open() -> Iterator[None]:
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        with contextlib.suppress(grpc.RpcError):
            call: Any = channel.unary_unary("/nobody/there")
            call(b"", timeout=1)
        yield


_grpc_is_up = pytest.fixture(scope="session", autouse=True)(_keep_open)
# For a folder with tests that fork: gRPC then opens its poller anew, which would look like a leak of theirs.
_grpc_is_up_here = pytest.fixture(scope="module", autouse=True)(_keep_open)
