"""What the tests of separated hosts run on them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import kourou as lp
from kourou.courier import current_call
from kourou.courier.lanes.grpc import client
from kourou.courier.lanes.http2 import tcp

KINDS = ("wait", "small", "bulk", "rest")
BULK = bytes(16 << 20)


class Server:
    """Tells in a file when nobody waits for its answer any more."""

    def __init__(self, told: Path) -> None:
        self._warned = told

    def wait(self) -> None:
        current_call().cancelled.wait()
        (self._warned / "given up").touch()

    def size(self, value: bytes) -> int:
        return len(value)


def call(server: Any, kind: str, told: Path, silence_s: int) -> None:
    """Call until that fails, and tell how and when; then call again."""
    tcp.SILENCE_S = silence_s
    client.GrpcTransport.idle_s = 1.0
    server.size(BULK)  # both streams are open
    (told / f"{kind} calls").touch()
    try:
        while kind != "rest":
            if kind == "wait":
                server.wait()
            else:
                server.size(BULK if kind == "bulk" else b"")
                time.sleep(0.1)
    except lp.errors.RpcError as error:
        told_now = told / f"{kind} being told"
        told_now.write_text(json.dumps([f"{type(error).__name__} {error}", time.time()]), encoding="utf-8")
        told_now.rename(told / f"{kind} told")
    while not (told / "mended").exists():
        time.sleep(0.05)
    server.size(BULK)
    (told / f"{kind} again").touch()
    lp.wait_for_stop()
