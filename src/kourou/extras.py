"""Packages that only some functions need, loaded when these are called."""

from __future__ import annotations

import importlib
from types import ModuleType

from kourou import errors

_EXTRAS = {
    "gymnasium": "sb3",
    "mlflow": "mlflow",
    "opentelemetry": "otel",
    "optuna": "tuning",
    "stable_baselines3": "sb3",
    "starlette": "ui",
    "tensorboard": "tensorboard",
    "textual": "top",
    "uvicorn": "ui",
    "wandb": "wandb",
}
"""Module → the extra that installs it; all others are in ``experiments``."""
_PACKAGES = {
    "opentelemetry": "opentelemetry-exporter-otlp-proto-http",
    "stable_baselines3": "stable-baselines3",
    "yaml": "pyyaml",
}
"""Module → the package's name, where it is another."""


def load_extra(module: str) -> ModuleType:
    """Import a module of an optional package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise  # it is there, but something that it needs itself is not
        raise errors.MissingExtra(_PACKAGES.get(top, top), _EXTRAS.get(top, "experiments")) from error
