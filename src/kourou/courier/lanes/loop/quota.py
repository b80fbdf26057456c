"""How many unauthenticated connections there may be at a time, of all hosts and of one, and for how long.

Anybody who reaches the port can open one, so they must not take what the server itself needs. One host gets half of the
places. When all are taken, a shorter time-out holds for those who have them.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

_MAX = 256
_SHARE_OF_DESCRIPTORS = 4  # a quarter of those that this process may have

ConnectionT = TypeVar("ConnectionT")


def max_unauthenticated() -> int:
    """How many may be there at a time, each of which takes a descriptor."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX if soft == resource.RLIM_INFINITY else max(2, min(_MAX, soft // _SHARE_OF_DESCRIPTORS))


class ConnectionQuota(Generic[ConnectionT]):
    """For one thread.

    Args:
        size: connections at a time. Of one host, half as many.
        timeout_s: how long one may stay.
        crowded_timeout_s: how long when others wait for its place.
    """

    def __init__(self, size: int, *, timeout_s: float, crowded_timeout_s: float) -> None:
        self._size = size
        self._timeout_s = timeout_s
        self._crowded_timeout_s = crowded_timeout_s
        self._hosts: dict[str, dict[ConnectionT, float]] = {}  # when each came, the first first
        self._host_of: dict[ConnectionT, str] = {}

    def __len__(self) -> int:
        return len(self._host_of)

    def __iter__(self) -> Iterator[ConnectionT]:
        return iter(self._host_of)

    def __contains__(self, connection: ConnectionT) -> bool:
        return connection in self._host_of

    def add(self, connection: ConnectionT, host: str) -> None:
        """One came."""
        self._host_of[connection] = host
        self._hosts.setdefault(host, {})[connection] = time.monotonic()

    def discard(self, connection: ConnectionT) -> None:
        """It has authenticated, or is gone."""
        host = self._host_of.pop(connection, None)
        if host is None:
            return
        of_host = self._hosts[host]
        del of_host[connection]
        if not of_host:
            del self._hosts[host]

    @property
    def is_full(self) -> bool:
        """Whether there is room for nobody."""
        return len(self) >= self._size

    def host_is_full(self, host: str) -> bool:
        """Whether those of a host have all the room that one host may have."""
        return len(self._hosts.get(host, ())) >= self._size // 2

    def overdue(self, *, of_host: str | None = None, others_wait: bool = False) -> list[ConnectionT]:
        """Those that have been there for too long."""
        before = time.monotonic() - (self._crowded_timeout_s if others_wait else self._timeout_s)
        hosts = self._hosts.values() if of_host is None else [self._hosts.get(of_host, {})]
        return [one for host in hosts for one, since in host.items() if since < before]
