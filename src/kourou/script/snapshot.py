"""The script as data: each of its globals that travels, pickled by itself; and values that refer to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imports:
    """The libraries that come with a value, and when."""

    at_once: frozenset[str] = frozenset()
    """When it is unpickled."""
    by_code: frozenset[str] = frozenset()
    """When its code begins to run."""
    sets_variables: bool = False
    """Some of its code sets variables of the environment, perhaps before what that code imports reads them."""

    @property
    def libraries(self) -> frozenset[str]:
        """Those that may just as well have been imported before."""
        return self.at_once if self.sets_variables else self.at_once | self.by_code

    def union(self, others: Iterable[Imports]) -> Imports:
        """What comes with this value and others."""
        found = (self, *others)
        return Imports(
            at_once=frozenset().union(*(each.at_once for each in found)),
            by_code=frozenset().union(*(each.by_code for each in found)),
            sets_variables=any(each.sets_variables for each in found),
        )


class Pickled(NamedTuple):
    """A value that refers to the script."""

    stream: bytes
    needs: tuple[str, ...]
    """The globals of the script that its code refers to, and that have to be there before it is unpickled."""
    buffers: list[Any]
    """Its large buffers, which are not in the stream."""
    imports: Imports = Imports()
    """Of the libraries that were asked for, those that it brings along."""


class Unit(NamedTuple):
    """A global of the script; several, if they share parts: a model and the optimizer of its parameters."""

    names: tuple[str, ...]
    """Definitions first."""
    stream: bytes
    """A pickle: a tuple of the definitions, what fills them, and a tuple of the other values."""
    needs: tuple[str, ...] = ()
    """The globals that its code refers to."""
    buffers: tuple[int, ...] = ()
    """Its large buffers, by their place in ``Snapshot.buffers``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a run's processes have as ``__main__``."""

    file: str | None = None
    """``__file__``; None for a notebook or ``python -c``."""
    spec: str | None = None
    """The name in ``__spec__``, where the script was started by ``python -m``."""
    package: str | None = None
    doc: str | None = None
    units: tuple[Unit, ...] = ()
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """File name of code → its text, for tracebacks: the file may not be there, or never was one."""
