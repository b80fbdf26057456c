"""Launchpad's names, those of 0.5.2 and of what came after it. What is not defined here is kourou's own."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import kourou
from kourou import make_program_stopper
from kourou.arguments import warn_ignored
from kourou.compat.courier import Client as CourierClient
from kourou.nodes import replay
from kourou.runtime.plan import absl_flags
from kourou.runtime.waiting.node_target import NodeTarget

__all__ = [
    "CourierClient",
    "LaunchContext",
    "LaunchType",
    "PythonProcess",
    "ReverbHandle",
    "ReverbNode",
    "get_context",
    "get_port_from_address",
    "launch",
]

BELOW = {
    "address": "AbstractAddressBuilder Address SimpleLocalAddressBuilder get_port_from_address",
    "context": "LaunchContext LaunchType get_context is_local_launch is_local_launch_or_test",
    "flags": "FLAGS LAUNCH_TYPE",
    "launch": "",
    "launch.launch": "launch",
    "launch.run_locally.run_locally": "run_commands_locally",
    "launch.serialization": "check_nodes_are_serializable",
    "launch.test_multi_threading.address_builder": "bind_addresses",
    "launch.worker_manager": "WorkerManager get_worker_manager register_stop_handler stop_event "
    "unregister_stop_handler wait_for_stop",
    "lazy_loader": "LazyImports",
    "nodes.base": "Handle Node",
    "nodes.cacher.node": "CacherNode",
    "nodes.courier.courier_utils": "batched_handler make_courier_server",
    "nodes.courier.node": "CourierClient CourierHandle CourierNode",
    "nodes.dereference": "Deferred Dereferenceable maybe_dereference",
    "nodes.multi_processing_colocation.node": "MultiProcessingColocation",
    "nodes.multi_threading_colocation.node": "MultiThreadingColocation",
    "nodes.python.local_multi_processing": "PythonProcess",
    "nodes.python.node": "PyClassNode PyNode",
    "nodes.python.xm_docker": "DockerConfig to_docker_executables",
    "nodes.reverb.node": "ReverbHandle ReverbNode",
    "program": "Program make_program",
    "program_stopper.program_stopper": "make_program_stopper",
    "stop_program.stop": "stop",
}

_PORTS = "a node listens before others are told where: pass its handle, program.add_node(node), to whoever calls it"
_CLOUD = "kourou starts no containers in clouds: use lp.launch(program, 'ssh', hosts=...) for several hosts"
_MANAGER = "lp.launch(program) returns a kourou.Run, with wait() and stop()"
ABSENT = {
    "AbstractAddressBuilder": _PORTS,
    "Address": _PORTS,
    "DockerConfig": _CLOUD,
    "LazyImports": "import in the function that needs the module",
    "SimpleLocalAddressBuilder": _PORTS,
    "WorkerManager": _MANAGER,
    "bind_addresses": _PORTS,
    "check_nodes_are_serializable": "lp.launch(program, 'test_mt') checks it",
    "get_worker_manager": _MANAGER,
    "make_courier_server": "make a courier.Server(), and bind an object's methods with its bind_object(instance)",
    "make_program": "make a Program, and add the nodes with add_node(node, label=...)",
    "run_commands_locally": "kourou.experiments runs commands",
    "to_docker_executables": _CLOUD,
}


class LaunchType(str, enum.Enum):
    """Launchpad's launch types; programs compare with those of clouds, too."""

    LOCAL_MULTI_THREADING = "local_mt"
    LOCAL_MULTI_PROCESSING = "local_mp"
    TEST_MULTI_THREADING = "test_mt"
    TEST_MULTI_PROCESSING = "test_mp"
    LOCAL_DOCKER = "local_docker"
    VERTEX_AI = "vertex_ai"

    def __str__(self) -> str:
        return self.value


class PythonProcess(kourou.PythonProcess):
    """``PythonProcess(args, env)``, also by position."""

    def __init__(self, args: Mapping[str, Any] | None = None, env: Any = None, **options: Any) -> None:
        super().__init__(args=args or {}, env=env or {}, **options)


class ReverbHandle(replay.ReplayHandle):
    """A promise of a ``reverb.Client``."""

    def make_client(self, target: NodeTarget) -> Any:
        """A client with Reverb's signatures."""
        from kourou.compat.reverb import Client  # noqa: PLC0415 - needs NumPy

        client = Client(target)
        target.binding.clients.add(client.calls)
        return client


class ReverbNode(kourou.ReverbNode):
    """A replay server, with checkpoints in a folder for temporary files where only their clock is given."""

    def __init__(
        self,
        priority_tables_fn: Callable[[], Any],
        checkpoint_ctor: Callable[[], Any] | None = None,
        checkpoint_time_delta_minutes: float | None = None,
    ) -> None:
        if checkpoint_time_delta_minutes is not None:
            checkpoint_ctor = checkpoint_ctor or _temporary_checkpointer
        super().__init__(priority_tables_fn, checkpoint_ctor, checkpoint_time_delta_minutes)

    def create_handle(self) -> ReverbHandle:
        """A promise of a ``reverb.Client`` of this node."""
        return ReverbHandle(self)


def _temporary_checkpointer() -> Any:
    from kourou.compat.reverb import TempDirCheckpointer  # noqa: PLC0415 - needs NumPy

    return TempDirCheckpointer()


def launch(
    programs: Any,
    launch_type: Any = None,
    *args: Any,
    controller_xm_requirements: Any = None,
    **kwargs: Any,
) -> kourou.Run:
    """:func:`kourou.launch`, which heeds Launchpad's flags.

    Raises:
        NotSupported: the launch type is one of a cloud's.
    """
    if launch_type is None:
        launch_type = absl_flags.given_launch_type()
    if isinstance(launch_type, str):
        launch_type = str(launch_type)
    if launch_type in {"vertex_ai", "local_docker"}:
        raise kourou.errors.NotSupported(f"the launch type {launch_type}: {_CLOUD}")
    warn_ignored(controller_xm_requirements=controller_xm_requirements is not None)
    notice_s = _flag("lp_termination_notice_secs")
    if notice_s is not None and "stop_timeline" not in kwargs:
        whole = kourou.StopTimeline()
        share = (notice_s if notice_s >= 0 else _FOR_EVER_S) / whole.total_s
        shares = {field.name: getattr(whole, field.name) * share for field in dataclasses.fields(whole)}
        kwargs["stop_timeline"] = kourou.StopTimeline(**shares)
    return kourou.launch(programs, launch_type, *args, **kwargs)


_FOR_EVER_S = 1e9  # of a stop that kills nobody


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchContext:
    """What a node knows of its program."""

    launch_type: LaunchType
    launch_config: Any = None
    program_stopper: Callable[..., None]


def get_context() -> LaunchContext:
    """The context of the node that this code runs in."""
    kind = LaunchType(kourou.get_context().launch_type)
    return LaunchContext(launch_type=kind, program_stopper=make_program_stopper(kind))


def get_port_from_address(address: str) -> int:
    """The port of ``host:port``."""
    return int(address.rpartition(":")[2])


# -- abseil's flags -------------------------------------------------------------------------------------------------


def __getattr__(name: str) -> Any:
    if name in {"FLAGS", "LAUNCH_TYPE"}:
        flags = importlib.import_module("absl.flags")
        return flags.FLAGS if name == "FLAGS" else flags.FlagHolder(flags.FLAGS, flags.FLAGS[absl_flags.LAUNCH_TYPE])
    return getattr(kourou, "Handle" if name == "Dereferenceable" else name)


def _define_flags() -> None:
    with contextlib.suppress(ImportError):
        flags = importlib.import_module("absl.flags")
        absl_flags.define_launch_type(os.environ.get("KOUROU_LAUNCH_TYPE") or "local_mt")
        if "lp_termination_notice_secs" not in flags.FLAGS:
            flags.DEFINE_integer("lp_termination_notice_secs", None, "seconds that a stop may take")


def _flag(name: str) -> Any:
    with contextlib.suppress(ImportError):
        flags = importlib.import_module("absl.flags").FLAGS
        return flags[name].value if flags.is_parsed() and name in flags else None
    return None


_define_flags()
