"""Node types."""

from kourou.nodes.cacher import CacherNode
from kourou.nodes.colocation import MultiProcessingColocation, MultiThreadingColocation
from kourou.nodes.courier import CourierHandle, CourierNode
from kourou.nodes.python import PyClassNode, PyNode
from kourou.nodes.replay import ReplayGroup, ReplayGroupHandle, ReplayHandle, ReplayNode
from kourou.nodes.torch import TorchClient, TorchHandle, TorchNode
from kourou.nodes.weights import WeightsHandle, WeightsNode

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
