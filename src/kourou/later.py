"""Names of a package that are imported when they are first used."""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def import_later(
    package: str, sources: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """What a package's ``__getattr__``, ``__dir__`` and ``__all__`` have to be.

    Who checks types reads imports under TYPE_CHECKING instead, ``from module import name as name``.

    Args:
        package: its name.
        sources: where, as in a relative import (``".courier.client"``) → the names that come from there, with spaces
            between them, and with what they are called there, if that differs (``"Client:CourierClient"``). A name that
            is its own source is that module.
    """
    modules: dict[str, tuple[str, str]] = {}
    for module, exports in sources.items():
        for export in exports.split():
            there, _, name = export.rpartition(":")
            modules[name] = module, there or name

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, there = modules[name]
        with importing():
            value = importlib.import_module(module, package)
        if module != f".{name}":
            value = getattr(value, there)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return find, names, list(modules)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """While much is imported: without collections, which find nothing and take a sixth of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
