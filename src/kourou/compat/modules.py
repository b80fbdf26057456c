"""Modules with other projects' names, whose contents are kourou's."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from kourou import errors


class _Absent(type):
    """The class of stand-ins: classes, so that annotations may name them."""

    remedy: str

    def __call__(cls, *_: Any, **__: Any) -> NoReturn:
        raise errors.NotSupported(f"{cls.__qualname__}: {cls.remedy}")

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise errors.NotSupported(f"{cls.__qualname__}.{name}: {cls.remedy}")


def absent(name: str, remedy: str) -> Any:
    """A stand-in.

    Args:
        name: as its project has it, with the project's: ``reverb.TFClient``.
        remedy: why it is not there, and what to use instead, in a sentence.
    """
    return _Absent(name, (), {"remedy": remedy, "__module__": __name__})


class View(types.ModuleType):
    """A module that shows some names of another one. They are looked up when they are used.

    Args:
        name: its own.
        source: where the names are.
        names: of what it shows.
    """

    def __init__(self, name: str, source: types.ModuleType, names: Iterable[str] = ()) -> None:
        super().__init__(name)
        self.__path__ = []
        self.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        self.show(source, names)

    def show(self, source: types.ModuleType, names: Iterable[str]) -> None:
        """Show these names."""
        self.__doc__, self.__all__, self._source = source.__doc__, sorted(names), source

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.__all__:
            raise AttributeError(f"{self.__name__}.{name} is not among what kourou.compat has: see docs/migrating.md")
        remedies: Mapping[str, str] = getattr(self._source, "ABSENT", {})
        full = f"{self.__name__}.{name}"
        value = absent(full, remedies[name]) if name in remedies else getattr(self._source, name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *self.__all__})

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)


def provide(name: str) -> None:
    """Put a project's package, and all modules below it, into ``sys.modules``.

    :mod:`kourou.compat` has a module of the project's name. Its ``BELOW`` says of each module which of the names it
    shows, or which module's; the package itself shows them all. ``ABSENT`` has the remedies for names that are not
    there. Other modules, such as the project's own examples, come from the project where it is on ``sys.path``.
    """
    source = importlib.import_module(f"kourou.compat.{name}")
    below: Mapping[str, str | types.ModuleType] = source.BELOW
    names = {each for shown in below.values() if isinstance(shown, str) for each in shown.split()}
    package = sys.modules[name] = View(name, source, names)
    package.__path__ = [str(folder) for entry in sys.path if (folder := Path(entry, name)).is_dir()]
    for path, shown in below.items():
        module = _module_at(package, path)
        module.show(*((source, shown.split()) if isinstance(shown, str) else (shown, shown.__all__)))


def _module_at(package: View, path: str) -> View:
    """The module ``a.b.c`` below a package; it and what is above it are made."""
    module = package
    for part in path.split("."):
        parent, full = module, f"{module.__name__}.{part}"
        known = sys.modules.get(full)
        module = known if isinstance(known, View) else View(full, package._source)  # noqa: SLF001 - of this class
        sys.modules[full] = module
        if part not in parent.__all__:  # launchpad.launch is a function, and a package
            setattr(parent, part, module)
    return module
