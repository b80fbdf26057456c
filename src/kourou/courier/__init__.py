"""Remote calls: public methods of an object in one process, called from another as if it were here.

``Server`` binds functions, ``Client`` calls them. Read ``calling`` for the client's half, ``serving`` for the server's,
``wire`` for what goes between, and ``lanes`` for how it gets there.

Names are imported when they are first used: a program is made, and compiled, without most of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kourou.later import import_later

if TYPE_CHECKING:
    from kourou.courier.address_target import AddressTarget
    from kourou.courier.client import (
        Client,
        address,
        close,
        closing,
        disconnect,
        futures,
        give_up,
        lane,
        list_methods,
        submit,
        with_options,
    )
    from kourou.courier.core.endpoint import Endpoint, host_id
    from kourou.courier.core.target import Target
    from kourou.courier.core.token import new_token, user_token
    from kourou.courier.server import Server
    from kourou.courier.serving.batching import BatchedHandler, batched_handler
    from kourou.courier.serving.call_info import CallInfo, Cancellation, Peer, current_call
    from kourou.courier.serving.methods import MethodMetrics

_SOURCES = {
    "address_target": "AddressTarget",
    "client": "Client address close closing disconnect futures give_up lane list_methods submit with_options",
    "core.endpoint": "Endpoint host_id",
    "core.target": "Target",
    "core.token": "new_token user_token",
    "server": "Server",
    "serving.batching": "BatchedHandler batched_handler",
    "serving.call_info": "CallInfo Cancellation Peer current_call",
    "serving.methods": "MethodMetrics",
}

__all__ = [
    "AddressTarget",
    "BatchedHandler",
    "CallInfo",
    "Cancellation",
    "Client",
    "Endpoint",
    "MethodMetrics",
    "Peer",
    "Server",
    "Target",
    "address",
    "batched_handler",
    "close",
    "closing",
    "current_call",
    "disconnect",
    "futures",
    "give_up",
    "host_id",
    "lane",
    "list_methods",
    "new_token",
    "submit",
    "user_token",
    "with_options",
]

if not TYPE_CHECKING:  # who checks types knows all names
    __getattr__, __dir__ = import_later(__name__, _SOURCES)
