"""Node types. Each is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kourou.later import import_later

if TYPE_CHECKING:
    from kourou.nodes.cacher import CacherNode
    from kourou.nodes.colocation import MultiProcessingColocation, MultiThreadingColocation
    from kourou.nodes.courier import CourierHandle, CourierNode
    from kourou.nodes.python import PyClassNode, PyNode
    from kourou.nodes.replay import ReplayGroup, ReplayGroupHandle, ReplayHandle, ReplayNode
    from kourou.nodes.torch import TorchClient, TorchHandle, TorchNode
    from kourou.nodes.weights import WeightsHandle, WeightsNode

_SOURCES = {
    "cacher": "CacherNode",
    "colocation": "MultiProcessingColocation MultiThreadingColocation",
    "courier": "CourierHandle CourierNode",
    "python": "PyClassNode PyNode",
    "replay": "ReplayGroup ReplayGroupHandle ReplayHandle ReplayNode",
    "torch": "TorchClient TorchHandle TorchNode",
    "weights": "WeightsHandle WeightsNode",
}

__all__ = [
    "CacherNode",
    "CourierHandle",
    "CourierNode",
    "MultiProcessingColocation",
    "MultiThreadingColocation",
    "PyClassNode",
    "PyNode",
    "ReplayGroup",
    "ReplayGroupHandle",
    "ReplayHandle",
    "ReplayNode",
    "TorchClient",
    "TorchHandle",
    "TorchNode",
    "WeightsHandle",
    "WeightsNode",
]

if not TYPE_CHECKING:  # who checks types knows all names
    __getattr__, __dir__ = import_later(__name__, _SOURCES)
