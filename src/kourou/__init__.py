"""kourou: a program runtime for distributed machine learning.

Write a topology once, as a graph of nodes; run it as threads or as processes::

    import kourou as lp

    program = lp.Program("hello")
    server = program.add_node(lp.CourierNode(Server), label="server")
    program.add_node(lp.PyNode(client, server), label="client")
    lp.launch(program, launch_type="local_mp").wait()

Names are imported when they are first used, so that ``import kourou`` stays cheap.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kourou import courier, errors
    from kourou.courier import Client as CourierClient
    from kourou.courier import batched_handler
    from kourou.nodes.cacher import CacherNode
    from kourou.nodes.colocation import MultiProcessingColocation, MultiThreadingColocation
    from kourou.nodes.courier import CourierHandle, CourierNode
    from kourou.nodes.python import PyClassNode, PyNode
    from kourou.nodes.replay import ReplayGroup, ReplayNode, ReverbNode
    from kourou.nodes.torch import TorchNode
    from kourou.runtime.broadcast import broadcast
    from kourou.runtime.compile import compile_program
    from kourou.runtime.context import NodeContext, get_context
    from kourou.runtime.handles import Deferred, Handle, maybe_dereference
    from kourou.runtime.hosts import Host, Hosts
    from kourou.runtime.inventory import Inventory
    from kourou.runtime.launch import launch
    from kourou.runtime.node import Node
    from kourou.runtime.plan import (
        LaunchPlan,
        LaunchType,
        NodePlan,
        ProcessSpec,
        is_local_launch,
        is_local_launch_or_test,
    )
    from kourou.runtime.policies import Restart
    from kourou.runtime.program import Program
    from kourou.runtime.records import ExitRecord, NodeRecord, NodeState
    from kourou.runtime.resources import PythonProcess, Resources
    from kourou.runtime.run import Run
    from kourou.runtime.serving import node_server, serve
    from kourou.runtime.stop_timeline import StopTimeline
    from kourou.runtime.target import NodeTarget
    from kourou.runtime.termination import (
        make_program_stopper,
        register_stop_handler,
        stop,
        stop_event,
        unregister_stop_handler,
        wait_for_stop,
    )

__version__ = "0.1.0"

_SOURCES = {
    "kourou": ("courier", "errors"),
    "kourou.courier": ("Client", "batched_handler"),
    "kourou.nodes.cacher": ("CacherNode",),
    "kourou.nodes.colocation": ("MultiProcessingColocation", "MultiThreadingColocation"),
    "kourou.nodes.courier": ("CourierHandle", "CourierNode"),
    "kourou.nodes.python": ("PyClassNode", "PyNode"),
    "kourou.nodes.replay": ("ReplayGroup", "ReplayNode", "ReverbNode"),
    "kourou.nodes.torch": ("TorchNode",),
    "kourou.runtime.broadcast": ("broadcast",),
    "kourou.runtime.compile": ("compile_program",),
    "kourou.runtime.context": ("NodeContext", "get_context"),
    "kourou.runtime.handles": ("Deferred", "Handle", "maybe_dereference"),
    "kourou.runtime.hosts": ("Host", "Hosts"),
    "kourou.runtime.inventory": ("Inventory",),
    "kourou.runtime.launch": ("launch",),
    "kourou.runtime.node": ("Node",),
    "kourou.runtime.plan": (
        "LaunchPlan",
        "LaunchType",
        "NodePlan",
        "ProcessSpec",
        "is_local_launch",
        "is_local_launch_or_test",
    ),
    "kourou.runtime.policies": ("Restart",),
    "kourou.runtime.program": ("Program",),
    "kourou.runtime.records": ("ExitRecord", "NodeRecord", "NodeState"),
    "kourou.runtime.resources": ("PythonProcess", "Resources"),
    "kourou.runtime.run": ("Run",),
    "kourou.runtime.serving": ("node_server", "serve"),
    "kourou.runtime.stop_timeline": ("StopTimeline",),
    "kourou.runtime.target": ("NodeTarget",),
    "kourou.runtime.termination": (
        "make_program_stopper",
        "register_stop_handler",
        "stop",
        "stop_event",
        "unregister_stop_handler",
        "wait_for_stop",
    ),
}
_SOURCE_OF = {name: module for module, names in _SOURCES.items() for name in names}
_ALIASES = {"CourierClient": "Client"}  # a name that differs from that in its module
_SOURCE_OF["CourierClient"] = _SOURCE_OF.pop("Client")

__all__ = [
    "CacherNode",
    "CourierClient",
    "CourierHandle",
    "CourierNode",
    "Deferred",
    "ExitRecord",
    "Handle",
    "Host",
    "Hosts",
    "Inventory",
    "LaunchPlan",
    "LaunchType",
    "MultiProcessingColocation",
    "MultiThreadingColocation",
    "Node",
    "NodeContext",
    "NodePlan",
    "NodeRecord",
    "NodeState",
    "NodeTarget",
    "ProcessSpec",
    "Program",
    "PyClassNode",
    "PyNode",
    "PythonProcess",
    "ReplayGroup",
    "ReplayNode",
    "Resources",
    "Restart",
    "ReverbNode",
    "Run",
    "StopTimeline",
    "TorchNode",
    "batched_handler",
    "broadcast",
    "compile_program",
    "courier",
    "errors",
    "get_context",
    "is_local_launch",
    "is_local_launch_or_test",
    "launch",
    "make_program_stopper",
    "maybe_dereference",
    "node_server",
    "register_stop_handler",
    "serve",
    "stop",
    "stop_event",
    "unregister_stop_handler",
    "wait_for_stop",
]


def __getattr__(name: str) -> Any:
    source = _SOURCE_OF.get(name)
    if source is None:
        raise AttributeError(f"module 'kourou' has no attribute {name!r}")
    if source == "kourou":
        value = importlib.import_module(f"kourou.{name}")
    else:
        value = getattr(importlib.import_module(source), _ALIASES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if "absl.flags" in sys.modules:  # a script written for Launchpad: it is about to parse its command line
    importlib.import_module("kourou.runtime.absl_flags").define_launch_type(
        os.environ.get("KOUROU_LAUNCH_TYPE") or "local_mt"
    )
