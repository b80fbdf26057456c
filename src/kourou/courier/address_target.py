"""A server known by nothing but its address."""

from __future__ import annotations

from kourou.courier.core.endpoint import Endpoint
from kourou.courier.core.target import Tls
from kourou.courier.core.token import user_token
from kourou.errors import ConnectionLost, RpcError
from kourou.shown import shown


class AddressTarget:
    """A server known by nothing but its ``host:port``.

    Args:
        address: where its gRPC server listens; ``localhost:4711`` and ``[::1]:4711`` are fine too.
        token: the secret that it expects; by default the user's own token.
        tls: whom to trust, if it speaks TLS; see ``Client``.
    """

    def __init__(self, address: str, token: str | None = None, tls: Tls | None = None) -> None:
        host, colon, port = address.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit() and int(port) < 1 << 16):
            raise ValueError(f"an address looks like host:port, not {shown(address)}")
        self._address = address
        self._token = token
        self.tls = tls

    def __reduce__(self) -> tuple[type[AddressTarget], tuple[str, str | None, Tls | None]]:
        return type(self), (self._address, self._token, self.tls)

    def __repr__(self) -> str:
        return f"AddressTarget({self._address!r})"

    @property
    def name(self) -> str:
        """The address."""
        return self._address

    @property
    def token(self) -> str:
        """The token given, or else the user's."""
        if self._token is None:
            self._token = user_token()
        return self._token

    def endpoint(self, timeout_s: float | None) -> Endpoint:
        """Ask the server at the address what it is, unless it lives in this very process."""
        from kourou.courier.lanes import inproc  # noqa: PLC0415 - not for those that need none
        from kourou.courier.lanes.grpc import client  # noqa: PLC0415 - not for those that need none

        return inproc.endpoint_at(self._address) or client.describe(self._address, self.token, timeout_s, self.tls)

    def lost(self, endpoint: Endpoint) -> RpcError:
        """A connection that broke is all that can be known."""
        return ConnectionLost(
            f"the connection to {self._address} (process {endpoint.pid}) broke; the call may or may not have run"
        )
