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

__version__ = "0.1.0"

if TYPE_CHECKING:
    from kourou import aio as aio, courier as courier, errors as errors
    from kourou.courier.serving.batching import batched_handler as batched_handler
    from kourou.nodes.cacher import CacherNode as CacherNode
    from kourou.nodes.colocation import (
        MultiProcessingColocation as MultiProcessingColocation,
        MultiThreadingColocation as MultiThreadingColocation,
    )
    from kourou.nodes.courier import CourierHandle as CourierHandle, CourierNode as CourierNode
    from kourou.nodes.python import PyClassNode as PyClassNode, PyNode as PyNode
    from kourou.nodes.replay import ReplayGroup as ReplayGroup, ReplayNode as ReplayNode, ReverbNode as ReverbNode
    from kourou.nodes.torch import TorchNode as TorchNode
    from kourou.nodes.weights import WeightsNode as WeightsNode
    from kourou.runtime.context.checkpoints import checkpoint_dir as checkpoint_dir
    from kourou.runtime.context.context import NodeContext as NodeContext, get_context as get_context
    from kourou.runtime.context.stop_functions import (
        make_program_stopper as make_program_stopper,
        register_stop_handler as register_stop_handler,
        stop as stop,
        stop_event as stop_event,
        unregister_stop_handler as unregister_stop_handler,
        wait_for_stop as wait_for_stop,
    )
    from kourou.runtime.graph.broadcast import broadcast as broadcast
    from kourou.runtime.graph.checkpoints import Checkpoints as Checkpoints
    from kourou.runtime.graph.failure_policies import Restart as Restart
    from kourou.runtime.graph.handles import (
        Deferred as Deferred,
        Handle as Handle,
        maybe_dereference as maybe_dereference,
    )
    from kourou.runtime.graph.node import Node as Node
    from kourou.runtime.graph.program import Program as Program
    from kourou.runtime.graph.resources import PythonProcess as PythonProcess, Resources as Resources
    from kourou.runtime.launch.batch.submit import submit as submit
    from kourou.runtime.launch.launch import launch as launch
    from kourou.runtime.launch.run import Run as Run
    from kourou.runtime.metrics.log import log as log, log_config as log_config, log_image as log_image
    from kourou.runtime.model.engine_options import Kubernetes as Kubernetes, Ray as Ray, Slurm as Slurm
    from kourou.runtime.model.hosts import Host as Host, Hosts as Hosts
    from kourou.runtime.model.inventory import Inventory as Inventory
    from kourou.runtime.model.process import ProcessSpec as ProcessSpec
    from kourou.runtime.model.records import ExitRecord as ExitRecord, NodeRecord as NodeRecord, NodeState as NodeState
    from kourou.runtime.monitoring.connected_run import ConnectedRun as ConnectedRun, connect as connect
    from kourou.runtime.node_process.debugger import wait_for_debugger as wait_for_debugger
    from kourou.runtime.node_process.serving import node_server as node_server, serve as serve
    from kourou.runtime.plan.compile import compile_program as compile_program
    from kourou.runtime.plan.launch_type import (
        LaunchType as LaunchType,
        is_local_launch as is_local_launch,
        is_local_launch_or_test as is_local_launch_or_test,
    )
    from kourou.runtime.plan.plan import LaunchPlan as LaunchPlan, NodePlan as NodePlan
    from kourou.runtime.stopping.timeline import StopTimeline as StopTimeline
    from kourou.runtime.waiting.node_target import NodeTarget as NodeTarget

    CourierClient = courier.Client
else:
    __getattr__, __dir__, __all__ = import_later(
        __name__,
        {
            ".aio": "aio",
            ".courier": "courier",
            ".courier.client": "Client:CourierClient",
            ".courier.serving.batching": "batched_handler",
            ".errors": "errors",
            ".nodes.cacher": "CacherNode",
            ".nodes.colocation": "MultiProcessingColocation MultiThreadingColocation",
            ".nodes.courier": "CourierHandle CourierNode",
            ".nodes.python": "PyClassNode PyNode",
            ".nodes.replay": "ReplayGroup ReplayNode ReverbNode",
            ".nodes.torch": "TorchNode",
            ".nodes.weights": "WeightsNode",
            ".runtime.context.checkpoints": "checkpoint_dir",
            ".runtime.context.context": "NodeContext get_context",
            ".runtime.context.stop_functions": "make_program_stopper register_stop_handler stop stop_event "
            "unregister_stop_handler wait_for_stop",
            ".runtime.graph.broadcast": "broadcast",
            ".runtime.graph.checkpoints": "Checkpoints",
            ".runtime.graph.failure_policies": "Restart",
            ".runtime.graph.handles": "Deferred Handle maybe_dereference",
            ".runtime.graph.node": "Node",
            ".runtime.graph.program": "Program",
            ".runtime.graph.resources": "PythonProcess Resources",
            ".runtime.launch.batch.submit": "submit",
            ".runtime.launch.launch": "launch",
            ".runtime.launch.run": "Run",
            ".runtime.metrics.log": "log log_config log_image",
            ".runtime.model.engine_options": "Kubernetes Ray Slurm",
            ".runtime.model.hosts": "Host Hosts",
            ".runtime.model.inventory": "Inventory",
            ".runtime.model.process": "ProcessSpec",
            ".runtime.model.records": "ExitRecord NodeRecord NodeState",
            ".runtime.monitoring.connected_run": "ConnectedRun connect",
            ".runtime.node_process.debugger": "wait_for_debugger",
            ".runtime.node_process.serving": "node_server serve",
            ".runtime.plan.compile": "compile_program",
            ".runtime.plan.launch_type": "LaunchType is_local_launch is_local_launch_or_test",
            ".runtime.plan.plan": "LaunchPlan NodePlan",
            ".runtime.stopping.timeline": "StopTimeline",
            ".runtime.waiting.node_target": "NodeTarget",
        },
    )

if "absl.flags" in sys.modules:  # a script written for Launchpad: it is about to parse its command line
    importlib.import_module("kourou.runtime.plan.absl_flags").define_launch_type(
        os.environ.get("KOUROU_LAUNCH_TYPE") or "local_mt"
    )
