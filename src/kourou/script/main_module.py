"""The run's ``__main__`` in one of its processes: its globals are unpickled when somebody asks for them.

So a node imports only what its own code needs, though it knows the whole script.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import threading
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

from kourou import cpython
from kourou.script import children, names
from kourou.script.definitions import Collector
from kourou.script.partial_definitions import PartialDefinitions
from kourou.script.snapshot import Pickled, Snapshot, Unit

Buffers = Callable[[int], Any]  # the buffer at a place of Snapshot.buffers
_MOST_AT_ONCE = 30  # times that one global is being unpickled: far more than classes have bases


class MainModule(types.ModuleType):
    """A ``__main__`` whose globals come from a snapshot."""

    def __getattr__(self, name: str) -> Any:
        contents = _contents
        if contents is None or not contents.find(name) or name not in vars(self):
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
        self._under_way: Counter[str] = Counter()
        self._partial = PartialDefinitions()

    def find(self, name: str) -> bool:
        """Unpickle a global that somebody refers to; whether there is one."""
        with self._filling():
            unit = self.waiting.get(name)
            if unit is None:
                return name in self._loaded
            # It may be referred to while something that it consists of is made, before there is anything of it: it is
            # begun there. That ends, since each time some definition more is begun.
            if self._under_way[name] > _MOST_AT_ONCE:
                return False
            self._unpickle(unit)
            self.need(unit.needs)
        return True

    def need(self, wanted: Iterable[str]) -> None:
        """Unpickle globals that code refers to, and all that they refer to."""
        with self._filling():
            left = list(wanted)
            while left:
                name = left.pop()
                unit = self.waiting.get(name)
                if unit is not None and not self._under_way[name]:
                    self._unpickle(unit)
                    left += unit.needs

    @contextlib.contextmanager
    def _filling(self) -> Iterator[None]:
        with names.loading:
            before, names.loader = names.loader, threading.get_ident()
            try:
                with self._partial.current():
                    yield
            finally:
                names.loader = before

    def holds(self, name: str, value: object) -> bool:
        """See :class:`kourou.script.names.Scope`."""
        return name in self._loaded and self._loaded[name] is value

    def close(self) -> None:
        """Nothing: a process has its ``__main__`` for as long as it lives."""

    def _unpickle(self, unit: Unit) -> None:
        self._under_way.update(unit.names)
        try:
            buffers = [self._buffers(place) for place in unit.buffers]
            definitions, _, others = pickle.loads(unit.stream, buffers=buffers)
        except BaseException as error:
            self._partial.forget(unit.names)
            for name in unit.names:
                self._globals.pop(name, None)
            if sys.version_info >= (3, 11):
                error.add_note(f"(while {', '.join(unit.names)} of the script was unpickled)")
            raise
        finally:
            self._under_way.subtract(unit.names)
        if unit.names[0] not in self.waiting:  # it refers to something that refers to it, and was complete there first
            return
        loaded = dict(zip(unit.names, (*definitions, *others), strict=True))
        self._loaded.update(loaded)
        for name, value in loaded.items():
            self._globals.setdefault(name, value)  # what a node has set meanwhile stays
            self.waiting.pop(name, None)


_contents: _Contents | None = None  # of this process's __main__, once it is a run's
_for_ever = contextlib.ExitStack()


@contextlib.contextmanager
def installed(snapshot: Snapshot, buffers: Buffers) -> Iterator[None]:
    """While entered, a snapshot is the ``__main__`` of this process.

    Args:
        snapshot: from the process that launched the run.
        buffers: gives a buffer of the snapshot by its place, writable, and private to this process; pickled for the
            children that this process starts.
    """
    global _contents  # noqa: PLW0603 - a process has one __main__
    module = MainModule("__main__", snapshot.doc)
    module.__builtins__ = __builtins__  # type: ignore[attr-defined]
    module.__package__ = snapshot.package
    module.__spec__ = ModuleSpec(snapshot.spec, None, origin=snapshot.file) if snapshot.spec is not None else None
    if snapshot.file is not None:
        module.__file__ = snapshot.file
    contents = _Contents(snapshot, buffers, vars(module))
    for file, text in snapshot.sources.items():
        cpython.set_source(file, text)
    before = _contents
    again = install, (snapshot, buffers)
    with names.shared_with(contents), children.calling_first("script", lambda: again), names.main_replaced_by(module):
        _contents = contents
        try:
            yield
        finally:
            _contents = before


def install(snapshot: Snapshot, buffers: Buffers) -> None:
    """Make a snapshot the ``__main__`` of this process for the rest of its life, or until the next is installed."""
    _for_ever.close()
    _for_ever.enter_context(installed(snapshot, buffers))


def for_children() -> children.ChildCall:
    """This process's own ``__main__``, as far as it travels, for a child."""
    collector = Collector()
    collector.need_everything()
    snapshot, buffers = collector.finish()
    return install, (snapshot, [bytearray(buffer) for buffer in buffers].__getitem__)


def setup_for_children(functions: Sequence[Callable[[], object]]) -> children.ChildCall:
    """Functions that this process has called, for a child to call."""
    return set_up, (Collector().add(tuple(functions), "the setup"),)


def load(pickled: Pickled) -> Any:
    """Unpickle a value, once what it needs of the script is in place."""
    if _contents is not None:
        _contents.need(pickled.needs)
    return pickle.loads(pickled.stream, buffers=pickled.buffers)


def set_up(pickled: Pickled) -> None:
    """Call pickled functions, here and later in the children of this process."""
    for function in load(pickled):
        function()
    children.call_first("setup", lambda: (set_up, (pickled._replace(buffers=list(map(bytearray, pickled.buffers))),)))
