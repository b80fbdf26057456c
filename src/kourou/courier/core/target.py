"""What a client calls: something that has a name and, once it is up, an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, Union

from kourou.courier.core.endpoint import Endpoint
from kourou.errors import RpcError

if TYPE_CHECKING:
    import ssl

Tls: TypeAlias = Union[bytes, "ssl.SSLContext"]  # certificates to trust (PEM), or all that can be said about TLS


class Target(Protocol):
    """A node to call. The runtime implements it by asking the coordinator; see ``address_target`` for the plain one."""

    @property
    def name(self) -> str:
        """What error messages call it: ``learner/0`` or ``127.0.0.1:4711``."""
        ...

    @property
    def token(self) -> str:
        """The secret that its server expects."""
        ...

    def endpoint(self, timeout_s: float | None) -> Endpoint:
        """Where it listens now; waits until it does. None waits for ever.

        Raises:
            DeadlineExceeded: it was not ready in time.
            NodeExited: it ended and will not come back.
            ServerUnavailable: nothing answers there at present.
        """
        ...

    def lost(self, endpoint: Endpoint) -> RpcError:
        """The error for calls that were in flight when the connection to ``endpoint`` broke.

        May wait about a second for the reason to become known.
        """
        ...
