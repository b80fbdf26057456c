"""Remote calls: public methods of an object in one process, called from another as if it were here.

``Server`` binds functions, ``Client`` calls them. Read ``calling`` for the client's half, ``serving`` for the server's,
``wire`` for what goes between, and ``lanes`` for how it gets there.

Names are imported when they are first used: a program is made, and compiled, without most of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kourou.later import import_later

if TYPE_CHECKING:
    from kourou.courier.address_target import AddressTarget as AddressTarget
    from kourou.courier.client import (
        Client as Client,
        address as address,
        close as close,
        closing as closing,
        disconnect as disconnect,
        futures as futures,
        give_up as give_up,
        lane as lane,
        list_methods as list_methods,
        submit as submit,
        with_options as with_options,
    )
    from kourou.courier.core.endpoint import Endpoint as Endpoint, host_id as host_id
    from kourou.courier.core.target import Target as Target
    from kourou.courier.core.token import new_token as new_token, user_token as user_token
    from kourou.courier.server import Server as Server
    from kourou.courier.serving.batching import BatchedHandler as BatchedHandler, batched_handler as batched_handler
    from kourou.courier.serving.call_info import (
        CallInfo as CallInfo,
        Cancellation as Cancellation,
        Peer as Peer,
        current_call as current_call,
    )
    from kourou.courier.serving.methods import MethodMetrics as MethodMetrics
else:
    __getattr__, __dir__, __all__ = import_later(
        __name__,
        {
            ".address_target": "AddressTarget",
            ".client": "Client address close closing disconnect futures give_up lane list_methods submit with_options",
            ".core.endpoint": "Endpoint host_id",
            ".core.target": "Target",
            ".core.token": "new_token user_token",
            ".server": "Server",
            ".serving.batching": "BatchedHandler batched_handler",
            ".serving.call_info": "CallInfo Cancellation Peer current_call",
            ".serving.methods": "MethodMetrics",
        },
    )
