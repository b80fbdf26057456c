"""Node types. Each is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kourou.later import import_later

if TYPE_CHECKING:
    from kourou.nodes.cacher import CacherNode as CacherNode
    from kourou.nodes.colocation import (
        MultiProcessingColocation as MultiProcessingColocation,
        MultiThreadingColocation as MultiThreadingColocation,
    )
    from kourou.nodes.courier import CourierHandle as CourierHandle, CourierNode as CourierNode
    from kourou.nodes.python import PyClassNode as PyClassNode, PyNode as PyNode
    from kourou.nodes.replay import (
        ReplayGroup as ReplayGroup,
        ReplayGroupHandle as ReplayGroupHandle,
        ReplayHandle as ReplayHandle,
        ReplayNode as ReplayNode,
    )
    from kourou.nodes.torch import TorchClient as TorchClient, TorchHandle as TorchHandle, TorchNode as TorchNode
    from kourou.nodes.weights import WeightsHandle as WeightsHandle, WeightsNode as WeightsNode
else:
    __getattr__, __dir__, __all__ = import_later(
        __name__,
        {
            ".cacher": "CacherNode",
            ".colocation": "MultiProcessingColocation MultiThreadingColocation",
            ".courier": "CourierHandle CourierNode",
            ".python": "PyClassNode PyNode",
            ".replay": "ReplayGroup ReplayGroupHandle ReplayHandle ReplayNode",
            ".torch": "TorchClient TorchHandle TorchNode",
            ".weights": "WeightsHandle WeightsNode",
        },
    )
