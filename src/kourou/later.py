"""Names of a package that are imported when they are first used."""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def import_later(package: str, sources: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """What a package's ``__getattr__`` and ``__dir__`` have to be.

    Args:
        package: its name; its ``__all__`` lists all public names.
        sources: public name → where it is: a module below the package, and what it is called there if that differs
            (``"courier.client:Client"``). A name that is its own source is that module.
    """

    def find(name: str) -> Any:
        source = sources.get(name)
        if source is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, there = source.partition(":")
        with importing():
            value = importlib.import_module(f"{package}.{module}")
        if module != name:
            value = getattr(value, there or name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *sys.modules[package].__all__})

    return find, names


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
