"""torchrunx's names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from kourou.spmd import (
    DEFAULT_ENV_VARS_FOR_COPY,
    AgentFailedError,
    Launcher,
    LaunchResult,
    RedirectHandler,
    WorkerFailedError,
    add_launcher_arguments as add_torchrunx_argument_group,
    launcher_from_args,
    only_from,
)

__all__ = [
    "DEFAULT_ENV_VARS_FOR_COPY",
    "AgentFailedError",
    "LaunchResult",
    "Launcher",
    "RedirectHandler",
    "WorkerFailedError",
    "add_torchrunx_argument_group",
    "get_handler_filter",
    "launcher_from_args",
]

BELOW = {
    "integrations.cli": "add_torchrunx_argument_group launcher_from_args",
    "integrations.lightning": "TorchrunxClusterEnvironment",
    "integrations.parsing": "add_torchrunx_argument_group launcher_from_args",
    "launcher": "DEFAULT_ENV_VARS_FOR_COPY LaunchResult Launcher",
    "utils.errors": "AgentFailedError WorkerFailedError",
    "utils.log_handling": "RedirectHandler default_handlers file_handlers get_handler_filter",
}
_FOLDER = "they are what is used unless others are set; KOUROU_LOG_DIR and KOUROU_LOG_LEVEL say where, and what"
ABSENT = {"default_handlers": _FOLDER, "file_handlers": _FOLDER}


def get_handler_filter(
    hostname: str, local_rank: int | None, log_level: int = logging.NOTSET
) -> Callable[[logging.LogRecord], bool]:
    """A filter for handlers: what one worker says (None: a host's agent), from a level on."""
    is_from = only_from(hostname, local_rank)
    return lambda record: record.levelno >= log_level and is_from(record)


def __getattr__(name: str) -> Any:
    if name == "TorchrunxClusterEnvironment":
        from kourou.spmd.lightning import SpmdEnvironment  # noqa: PLC0415 - needs Lightning

        return SpmdEnvironment
    raise AttributeError(name)
