"""Packages that only some of the experiments' functions need, loaded when they are called."""

from __future__ import annotations

import importlib
from types import ModuleType

from kourou import errors

__all__ = ["load_extra"]


def load_extra(module: str, package: str | None = None) -> ModuleType:
    """Import a package of the extra ``experiments``.

    Args:
        module: what to import.
        package: what to install; None: the module's top name.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise  # it is there, but something that it needs itself is not
        raise errors.MissingExtra(package or top, "experiments") from error
