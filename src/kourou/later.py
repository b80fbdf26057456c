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
        sources: a module below the package → the public names that it has, with spaces between them; ``Name:There``
            where it is called otherwise there. One without names is a public name itself.
    """
    places = {name: (module, there) for module, names in sources.items() for name, there in _named(names, module)}

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, there = places[name]
        with importing():
            value = importlib.import_module(f"{package}.{module}")
        if there:
            value = getattr(value, there)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *sys.modules[package].__all__})

    return find, names


def _named(names: str, module: str) -> Iterator[tuple[str, str]]:
    """Public names, each with what it is called in its module; empty for the module itself."""
    for one in names.split():
        name, _, there = one.partition(":")
        yield name, there or name
    if not names:
        yield module, ""


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
