"""Packages that only some of a module's tests need: where they are not installed, the others run all the same."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest

__all__ = ["is_there", "optional"]


def optional(name: str) -> Any:
    """A module; where it is not installed, a stand-in whose use skips the test."""
    return importlib.import_module(name) if is_there(name) else _Missing(name)


def is_there(name: str) -> bool:
    """Whether a module is installed."""
    return importlib.util.find_spec(name) is not None


class _Missing:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        pytest.skip(f"{self._name} is not installed")
