"""What clients and servers agree on beyond the frames."""

from __future__ import annotations

LIST_METHODS = "__list_methods__"  # a method of every server: the names of the others
WINDOW_ITEMS = 16  # items of a stream on their way: enough to hide the round trip of a credit
SERVICE = "kourou.v1.Courier"  # as which gRPC knows a server
TOKEN_KEY = "kourou-token"  # noqa: S105 - the name of the metadata, not the secret
WINDOW_BYTES = 16 << 20  # of them; one item larger than this travels alone
