"""Functions over many processes: ``Launcher(hostnames, workers_per_host).run(train, config).rank(0)``."""

from __future__ import annotations

from kourou.errors import AgentFailedError, WorkerFailedError
from kourou.spmd.arguments import add_launcher_arguments, launcher_from_args
from kourou.spmd.environment import DEFAULT_ENV_VARS_FOR_COPY
from kourou.spmd.future import LaunchFuture
from kourou.spmd.launcher import Launcher
from kourou.spmd.lines import Line
from kourou.spmd.log_handlers import RedirectHandler, default_handlers, only_from
from kourou.spmd.results import LaunchResult

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
