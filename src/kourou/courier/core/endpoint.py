"""Where one server really listens, as data that any process may read."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
from pathlib import Path

from kourou.errors import ProtocolError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The addresses of one live server.

    Attributes:
        server_id: random hex, new for every ``Server`` object, so a restarted node is told from its predecessor.
        pid: the process that serves.
        host_id: equal for processes that can reach each other's UNIX sockets and compare process ids.
        grpc: ``host:port`` of the gRPC server.
        local: path of the local lane's UNIX socket; None when the server has none.
    """

    server_id: str
    pid: int
    host_id: str
    grpc: str
    local: str | None = None

    def to_json(self) -> str:
        """The endpoint as one line of JSON, for publishing."""
        return json.dumps(vars(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Endpoint:
        """Read what ``to_json`` wrote.

        Raises:
            ProtocolError: the text is not an endpoint.
        """
        try:
            fields = json.loads(text)
            endpoint = cls(**fields)
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"not an endpoint: {text[:200]!r}") from error
        texts = (endpoint.server_id, endpoint.host_id, endpoint.grpc, endpoint.local or "")
        if not isinstance(endpoint.pid, int) or not all(isinstance(text, str) for text in texts):
            raise ProtocolError(f"an endpoint with fields of wrong types: {text[:200]!r}")
        return endpoint


@functools.lru_cache(maxsize=1)
def host_id() -> str:
    """A name that two processes share when they share a kernel, a process table and a file system.

    The boot id tells machines apart; the namespaces tell containers on one machine apart, whose process
    ids and socket paths mean different things.
    """
    if sys.platform != "linux":
        return os.uname().nodename
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        spaces = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("mnt", "pid")]
    except OSError:  # /proc is not mounted: nothing better than the name is known
        return os.uname().nodename
    return " ".join([boot, *spaces])
