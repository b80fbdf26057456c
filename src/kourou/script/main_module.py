"""The run's ``__main__`` in one of its processes: its globals are unpickled when somebody asks for them.

So a node imports only what its own code needs, though it knows the whole script.
"""

from __future__ import annotations

import contextlib
import linecache
import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

from kourou.script import children, names
from kourou.script.definitions import Collector
from kourou.script.snapshot import Pickled, Snapshot, Unit

__all__ = ["MainModule", "for_children", "install", "load", "set_up", "setup_for_children"]

Buffers = Callable[[int], Any]  # the buffer at a place of Snapshot.buffers


class MainModule(types.ModuleType):
    """A ``__main__`` whose globals come from a snapshot."""

    def __getattr__(self, name: str) -> Any:
        contents = _contents
        if contents is None or not contents.load((name,)) or name not in vars(self):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return vars(self)[name]

    def __dir__(self) -> Iterable[str]:
        return sorted({*vars(self), *(_contents.waiting if _contents is not None else ())})


class _Contents:
    """What of a snapshot has been unpickled, and what has not."""

    def __init__(self, snapshot: Snapshot, buffers: Buffers, module_globals: dict[str, Any]) -> None:
        self.waiting: dict[str, Unit] = {name: unit for unit in snapshot.units for name in unit.names}
        self._buffers = buffers
        self._globals = module_globals
        self._loaded: dict[str, Any] = {}

    def load(self, wanted: Iterable[str]) -> bool:
        """Unpickle globals, and all that their code refers to; whether there was anything to do or in the making."""
        found = False
        with names.loading:
            before, names.loader = names.loader, threading.get_ident()
            try:
                left = list(wanted)
                while left:
                    name = left.pop()
                    unit = self.waiting.get(name)
                    found = found or unit is not None or name in self._loaded
                    if unit is not None:
                        self._unpickle(unit)
                        left += unit.needs
            finally:
                names.loader = before
        return found

    def holds(self, name: str, value: object) -> bool:
        """See :class:`kourou.script.names.Scope`."""
        return name in self._loaded and self._loaded[name] is value

    def _unpickle(self, unit: Unit) -> None:
        for name in unit.names:
            del self.waiting[name]
        try:
            value = pickle.loads(unit.stream, buffers=[self._buffers(place) for place in unit.buffers])
        except BaseException as error:
            for name in unit.names:
                self.waiting[name] = unit
                self._globals.pop(name, None)
            if sys.version_info >= (3, 11):
                error.add_note(f"(while {', '.join(unit.names)} of the script was unpickled)")
            raise
        values = value if len(unit.names) > 1 else (value,)
        loaded = dict(zip(unit.names, values, strict=True))
        self._loaded.update(loaded)
        self._globals.update(loaded)


_contents: _Contents | None = None  # of this process's __main__, once it is a run's


def install(snapshot: Snapshot, buffers: Buffers) -> None:
    """Make a snapshot the ``__main__`` of this process, for the rest of its life.

    Args:
        snapshot: from the process that launched the run.
        buffers: gives a buffer of the snapshot by its place, writable, and private to this process.
    """
    global _contents  # noqa: PLW0603 - a process has one __main__
    module = MainModule("__main__", snapshot.doc)
    module.__builtins__ = __builtins__  # type: ignore[attr-defined]
    module.__package__ = snapshot.package
    module.__spec__ = ModuleSpec(snapshot.spec, None, origin=snapshot.file) if snapshot.spec is not None else None
    if snapshot.file is not None:
        module.__file__ = snapshot.file
    _contents = _Contents(snapshot, buffers, vars(module))
    _scope.close()
    _scope.enter_context(names.shared_with(_contents))
    _replaced.append(sys.modules["__main__"])  # its code may still run: a module that is collected loses its globals
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    children.give("script", lambda: (_install_again, (snapshot, _copies(snapshot, buffers))))
    for file, text in snapshot.sources.items():
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)


def for_children() -> children.Gift:
    """This process's own ``__main__``, as far as it travels, for a child."""
    collector = Collector()
    collector.need_everything()
    snapshot, buffers = collector.finish()
    return _install_again, (snapshot, [bytearray(buffer) for buffer in buffers])


def setup_for_children(functions: Sequence[Callable[[], object]]) -> children.Gift:
    """Functions that this process has called, for a child to call."""
    return set_up, (Collector().add(tuple(functions), "the setup"),)


def _copies(snapshot: Snapshot, buffers: Buffers) -> list[bytearray]:
    return [bytearray(buffers(place)) for place in range(sum(len(unit.buffers) for unit in snapshot.units))]


def _install_again(snapshot: Snapshot, buffers: list[bytearray]) -> None:
    install(snapshot, buffers.__getitem__)


def load(pickled: Pickled) -> Any:
    """Unpickle a value, once what it needs of the script is in place."""
    if _contents is not None:
        _contents.load(pickled.needs)
    return pickle.loads(pickled.stream, buffers=pickled.buffers)


def set_up(pickled: Pickled) -> None:
    """Call pickled functions, here and later in the children of this process."""
    for function in load(pickled):
        function()
    children.give("setup", lambda: (set_up, (pickled._replace(buffers=list(map(bytearray, pickled.buffers))),)))


_scope = contextlib.ExitStack()  # of the installed snapshot; a second one takes the place of the first
_replaced: list[types.ModuleType] = []
