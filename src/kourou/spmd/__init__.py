"""Functions over many processes: ``Launcher(hostnames, workers_per_host).run(train, config).rank(0)``."""

from __future__ import annotations

from kourou.errors import AgentFailedError, WorkerFailedError
from kourou.spmd.launch.arguments import add_launcher_arguments, launcher_from_args
from kourou.spmd.launch.launcher import Launcher
from kourou.spmd.launch.log_handlers import RedirectHandler, default_handlers, only_from
from kourou.spmd.launch.results import LaunchFuture, LaunchResult
from kourou.spmd.worker.environment import DEFAULT_ENV_VARS_FOR_COPY
from kourou.spmd.worker.lines import Line

__all__ = [
    "DEFAULT_ENV_VARS_FOR_COPY",
    "AgentFailedError",
    "LaunchFuture",
    "LaunchResult",
    "Launcher",
    "Line",
    "RedirectHandler",
    "WorkerFailedError",
    "add_launcher_arguments",
    "default_handlers",
    "launcher_from_args",
    "only_from",
]
