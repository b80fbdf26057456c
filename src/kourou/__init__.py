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
from typing import TYPE_CHECKING

from kourou.later import import_later

if TYPE_CHECKING:
    from kourou import aio, courier, errors
    from kourou.courier import Client as CourierClient
    from kourou.courier import batched_handler
    from kourou.nodes.cacher import CacherNode
    from kourou.nodes.colocation import MultiProcessingColocation, MultiThreadingColocation
    from kourou.nodes.courier import CourierHandle, CourierNode
    from kourou.nodes.python import PyClassNode, PyNode
    from kourou.nodes.replay import ReplayGroup, ReplayNode, ReverbNode
    from kourou.nodes.torch import TorchNode
    from kourou.nodes.weights import WeightsNode
    from kourou.runtime.context.checkpoints import checkpoint_dir
    from kourou.runtime.context.context import NodeContext, get_context
    from kourou.runtime.context.stop_functions import (
        make_program_stopper,
        register_stop_handler,
        stop,
        stop_event,
        unregister_stop_handler,
        wait_for_stop,
    )
    from kourou.runtime.graph.broadcast import broadcast
    from kourou.runtime.graph.checkpoints import Checkpoints
    from kourou.runtime.graph.failure_policies import Restart
    from kourou.runtime.graph.handles import Deferred, Handle, maybe_dereference
    from kourou.runtime.graph.node import Node
    from kourou.runtime.graph.program import Program
    from kourou.runtime.graph.resources import PythonProcess, Resources
    from kourou.runtime.launch.batch.submit import submit
    from kourou.runtime.launch.launch import launch
    from kourou.runtime.launch.run import Run
    from kourou.runtime.metrics.log import log, log_config, log_image
    from kourou.runtime.model.engine_options import Kubernetes, Ray, Slurm
    from kourou.runtime.model.hosts import Host, Hosts
    from kourou.runtime.model.inventory import Inventory
    from kourou.runtime.model.process import ProcessSpec
    from kourou.runtime.model.records import ExitRecord, NodeRecord, NodeState
    from kourou.runtime.node_process.debugger import wait_for_debugger
    from kourou.runtime.node_process.serving import node_server, serve
    from kourou.runtime.plan.compile import compile_program
    from kourou.runtime.plan.launch_type import LaunchType, is_local_launch, is_local_launch_or_test
    from kourou.runtime.plan.plan import LaunchPlan, NodePlan
    from kourou.runtime.stopping.timeline import StopTimeline
    from kourou.runtime.waiting.node_target import NodeTarget

__version__ = "0.1.0"

_SOURCES = {
    "aio": "",
    "courier": "",
    "courier.client": "CourierClient:Client",
    "courier.serving.batching": "batched_handler",
    "errors": "",
    "nodes.cacher": "CacherNode",
    "nodes.colocation": "MultiProcessingColocation MultiThreadingColocation",
    "nodes.courier": "CourierHandle CourierNode",
    "nodes.python": "PyClassNode PyNode",
    "nodes.replay": "ReplayGroup ReplayNode ReverbNode",
    "nodes.torch": "TorchNode",
    "nodes.weights": "WeightsNode",
    "runtime.context.checkpoints": "checkpoint_dir",
    "runtime.context.context": "NodeContext get_context",
    "runtime.context.stop_functions": "make_program_stopper register_stop_handler stop stop_event "
    "unregister_stop_handler wait_for_stop",
    "runtime.graph.broadcast": "broadcast",
    "runtime.graph.checkpoints": "Checkpoints",
    "runtime.graph.failure_policies": "Restart",
    "runtime.graph.handles": "Deferred Handle maybe_dereference",
    "runtime.graph.node": "Node",
    "runtime.graph.program": "Program",
    "runtime.graph.resources": "PythonProcess Resources",
    "runtime.launch.batch.submit": "submit",
    "runtime.launch.launch": "launch",
    "runtime.launch.run": "Run",
    "runtime.metrics.log": "log log_config log_image",
    "runtime.model.engine_options": "Kubernetes Ray Slurm",
    "runtime.model.hosts": "Host Hosts",
    "runtime.model.inventory": "Inventory",
    "runtime.model.process": "ProcessSpec",
    "runtime.model.records": "ExitRecord NodeRecord NodeState",
    "runtime.node_process.debugger": "wait_for_debugger",
    "runtime.node_process.serving": "node_server serve",
    "runtime.plan.compile": "compile_program",
    "runtime.plan.launch_type": "LaunchType is_local_launch is_local_launch_or_test",
    "runtime.plan.plan": "LaunchPlan NodePlan",
    "runtime.stopping.timeline": "StopTimeline",
    "runtime.waiting.node_target": "NodeTarget",
}

__all__ = [
    "CacherNode",
    "Checkpoints",
    "CourierClient",
    "CourierHandle",
    "CourierNode",
    "Deferred",
    "ExitRecord",
    "Handle",
    "Host",
    "Hosts",
    "Inventory",
    "Kubernetes",
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
    "Ray",
    "ReplayGroup",
    "ReplayNode",
    "Resources",
    "Restart",
    "ReverbNode",
    "Run",
    "Slurm",
    "StopTimeline",
    "TorchNode",
    "WeightsNode",
    "aio",
    "batched_handler",
    "broadcast",
    "checkpoint_dir",
    "compile_program",
    "courier",
    "errors",
    "get_context",
    "is_local_launch",
    "is_local_launch_or_test",
    "launch",
    "log",
    "log_config",
    "log_image",
    "make_program_stopper",
    "maybe_dereference",
    "node_server",
    "register_stop_handler",
    "serve",
    "stop",
    "stop_event",
    "submit",
    "unregister_stop_handler",
    "wait_for_debugger",
    "wait_for_stop",
]


if not TYPE_CHECKING:  # who checks types knows all names
    __getattr__, __dir__ = import_later(__name__, _SOURCES)

if "absl.flags" in sys.modules:  # a script written for Launchpad: it is about to parse its command line
    importlib.import_module("kourou.runtime.plan.absl_flags").define_launch_type(
        os.environ.get("KOUROU_LAUNCH_TYPE") or "local_mt"
    )
