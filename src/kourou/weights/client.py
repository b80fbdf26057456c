"""The client: what nodes get for a handle of a weights node."""

from __future__ import annotations

import functools
from typing import Any

from kourou import courier
from kourou.closing import ClosedAtExit
from kourou.courier.address_target import AddressTarget
from kourou.courier.wire.frames import Memory
from kourou.weights.attaching import Way
from kourou.weights.publisher import Publisher
from kourou.weights.relays import Relaying, Relays
from kourou.weights.subscriber import Subscriber
from kourou.weights.transport import Transport

DEFAULT_NAME = "default"


class Client(ClosedAtExit):
    """Makes publishers and subscribers. Any number of threads may use it; can be pickled.

    Args:
        target: ``host:port`` of the server, or a target of :mod:`kourou.courier`.
        token: the server's secret, when ``target`` is an address; by default the user's own.
        lane: ``inproc``, ``local`` or ``grpc`` to force one; by default the fastest that both ends share. ``grpc``
            does without shared memory, too.
        connect_timeout_s: seconds until ``DeadlineExceeded`` when the server does not answer; None waits for ever.
        caller: who publishes, for messages.
        relaying: lets one process of each host get what comes from other hosts, for all that read there; None: each
            reader gets its own. Not kept when the client is pickled.
    """

    def __init__(
        self,
        target: str | courier.Target,
        *,
        token: str | None = None,
        lane: str | None = None,
        connect_timeout_s: float | None = 60.0,
        caller: str | None = None,
        relaying: Relaying | None = None,
    ) -> None:
        self._arguments: dict[str, Any] = {
            "target": target,
            "token": token,
            "lane": lane,
            "connect_timeout_s": connect_timeout_s,
            "caller": caller,
        }
        self._target: courier.Target = AddressTarget(target, token) if isinstance(target, str) else target
        self._calls: courier.Client = courier.Client(self._target, lane=lane)
        self._lane = lane
        self._connect_timeout_s = connect_timeout_s
        self._caller = caller
        self._relays = None
        if relaying is not None:
            self._relays = Relays(relaying, courier.address(self._calls), self._dial)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(Client, **self._arguments), ()

    def __repr__(self) -> str:
        return f"<client of the weights of {courier.address(self._calls)}>"

    @property
    def calls(self) -> courier.Client:
        """The client of courier underneath."""
        return self._calls

    def publisher(self, name: str = DEFAULT_NAME, *, transport: Transport | None = None) -> Publisher:
        """A publisher of the weights of a name; ``transport`` brings them to readers by a way of its own."""
        return Publisher(self._way(name), transport)

    def subscriber(
        self,
        name: str = DEFAULT_NAME,
        *,
        max_lag: int | None = None,
        max_age_s: float | None = None,
        transport: Transport | None = None,
    ) -> Subscriber:
        """A subscriber of the weights of a name.

        Args:
            name: of the weights; nothing need have been published.
            max_lag: newer versions that there may be of what it gives; see :class:`Subscriber`.
            max_age_s: seconds since it was published.
            transport: brings what a publisher with a transport has published.
        """
        return Subscriber(self._way(name), max_lag=max_lag, max_age_s=max_age_s, transport=transport)

    def close(self) -> None:
        """Close the connection. Views stay valid."""
        if self._relays is not None:
            self._relays.close()
        courier.close(self._calls)

    def _way(self, name: str) -> Way:
        return Way(self._calls, name, self._connect_timeout_s, caller=self._caller, relays=self._relays)

    def _dial(self, relay: str | None, memory: Memory | None) -> courier.Client:
        """A client of a relay, of its address, which has our token and certificate; None: of the server."""
        target, lane = self._target, self._lane
        if relay is None:
            return courier.Client(target, lane=lane, memory=memory)
        tls = getattr(target, "tls", None)
        return courier.Client(relay, token=target.token, tls=tls, lane=lane, wait_for_ready=False, memory=memory)
