"""Those who have connected and not shown the token yet: how many there may be, and how long.

Anybody who reaches the port can be one, so they must not take what the server itself needs. There is room for some,
and half of it for those of one host. When there is none, those who are there have to hurry up.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Strangers", "most_strangers"]

_MOST = 256
_SHARE_OF_DESCRIPTORS = 4  # a quarter of those that this process may have

StrangerT = TypeVar("StrangerT")


def most_strangers() -> int:
    """How many may be there at a time, each of which takes a descriptor."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(2, min(_MOST, soft // _SHARE_OF_DESCRIPTORS))


class Strangers(Generic[StrangerT]):
    """For one thread.

    Args:
        most: at a time. Of one host, half as many.
        patience_s: how long one may stay.
        hurry_s: how long when others wait for its place.
    """

    def __init__(self, most: int, *, patience_s: float, hurry_s: float) -> None:
        self._most = most
        self._patience_s = patience_s
        self._hurry_s = hurry_s
        self._hosts: dict[str, dict[StrangerT, float]] = {}  # when each came, the first first
        self._host_of: dict[StrangerT, str] = {}

    def __len__(self) -> int:
        return len(self._host_of)

    def __iter__(self) -> Iterator[StrangerT]:
        return iter(self._host_of)

    def __contains__(self, stranger: StrangerT) -> bool:
        return stranger in self._host_of

    def add(self, stranger: StrangerT, host: str) -> None:
        """One came."""
        self._host_of[stranger] = host
        self._hosts.setdefault(host, {})[stranger] = time.monotonic()

    def discard(self, stranger: StrangerT) -> None:
        """It is none any more, or has gone."""
        host = self._host_of.pop(stranger, None)
        if host is None:
            return
        of_host = self._hosts[host]
        del of_host[stranger]
        if not of_host:
            del self._hosts[host]

    @property
    def is_full(self) -> bool:
        """Whether there is room for nobody."""
        return len(self) >= self._most

    def has_share(self, host: str) -> bool:
        """Whether those of a host have all the room that one host may have."""
        return len(self._hosts.get(host, ())) >= self._most // 2

    def overdue(self, *, of_host: str | None = None, others_wait: bool = False) -> list[StrangerT]:
        """Those that have been there for too long."""
        before = time.monotonic() - (self._hurry_s if others_wait else self._patience_s)
        hosts = self._hosts.values() if of_host is None else [self._hosts.get(of_host, {})]
        return [one for host in hosts for one, since in host.items() if since < before]
