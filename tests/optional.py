"""Packages that only some of a module's tests need: imported when first used, and skipped where they are not installed.

Every process of a test session collects all files, and nodes import the file that defines them: at its top, a package
such as torch would cost each of them seconds.

``pytest`` is such a package, too: in a node, where no tests run, its marks and fixtures are nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

__all__ = ["is_there", "optional", "psutil", "pytest"]


def optional(name: str) -> Any:
    """Stands for a module, and imports it when it is first used; where it is not installed, its use skips the test."""
    return _Module(name)


def is_there(name: str) -> bool:
    """Whether a package is installed."""
    return importlib.util.find_spec(name) is not None


class _Module:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):  # no use of it: pytest and pickle ask every global for such
            raise AttributeError(attribute)
        package = self._name.partition(".")[0]
        if not is_there(package):
            import pytest  # nodes, which import this file too, need none of it

            pytest.skip(f"{package} is not installed")
        return getattr(importlib.import_module(self._name), attribute)

    def __reduce__(self) -> tuple[Any, ...]:
        return optional, (self._name,)


class _Pytest:
    """Stands for pytest in processes that were started by tests."""

    def __getattr__(self, name: str) -> Any:
        return _Nothing() if name in {"fixture", "mark", "param"} else getattr(importlib.import_module("pytest"), name)


class _Nothing:
    """A mark, a fixture, a parameter."""

    def __getattr__(self, name: str) -> _Nothing:
        return self

    def __call__(self, *_args: object, **_options: object) -> _Nothing:
        return self


if TYPE_CHECKING:
    import psutil
else:
    psutil = optional("psutil")
if TYPE_CHECKING or "_pytest" in sys.modules:
    import pytest
else:
    pytest = _Pytest()
