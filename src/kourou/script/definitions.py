"""Collecting what of the script travels: pickled values say which of its globals they need, and those which others.

Definitions that nobody needs yet go along, too, if that costs little: instances of their classes may travel later.
"""

from __future__ import annotations

import contextlib
import enum
import io
import linecache
import logging
import pickle
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from kourou import errors
from kourou.script import names, partial_definitions, unpicklable
from kourou.script.imports import ImportFinder
from kourou.script.names import is_definition
from kourou.script.pickling import ByValuePickler, reduce_named
from kourou.script.snapshot import Imports, Pickled, Snapshot, Unit

Reduce = Callable[[Any], "tuple[Any, ...] | None"]
Buffer = memoryview

_OUT_OF_BAND_BYTES = 64 * 1024  # smaller buffers stay in the stream: one of their own would cost more than it saves
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_LONGEST_PLAIN = 4096
_WORD = re.compile(r"[^\W\d]\w*")
_OF_EVERY_MODULE = {*vars(types.ModuleType("")), "__file__", "__builtins__", "__cached__", "__annotations__"}
_FOUND = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, enum.Enum, logging.Logger)
_ANONYMOUS = (*_FOUND, types.CodeType, str, bytes, tuple, frozenset, MappingProxyType)
_MACHINERY = {"typing", "dataclasses", __name__}


class _Draft(NamedTuple):
    """A unit that may still become part of a larger one."""

    value: Any
    pickled: Pickled
    parts: dict[int, Any]
    """By identity: the objects in it that others may share."""


class Collector:
    """Pickles values for one run, and collects what of the script they need; ``scope`` and ``finish`` are the result.

    Args:
        reduce: pickles some values in a way of its own; None: that is not one of them.
        reducers: as ``copyreg``'s dispatch table, for this collector alone.
        libraries: of these, :meth:`imports` tells those that a value brings along.
    """

    def __init__(
        self,
        reduce: Reduce = lambda _: None,
        reducers: Mapping[type, Callable[[Any], Any]] = MappingProxyType({}),
        libraries: Collection[str] = (),
    ) -> None:
        self.reduce = reduce
        self.reducers = reducers
        self.main = sys.modules["__main__"]
        self.files: set[str] = set()
        self._globals = vars(self.main)
        self._asked_by: dict[str, str] = {}  # a global → who needed it first
        self._drafts: dict[str, _Draft] = {}
        self._held: dict[str, Any] = {}
        self._liked: Collection[str] = ()  # that travel if they can
        self._finder = ImportFinder(libraries)
        self._finished: dict[str, Pickled] = {}  # a global → its draft

    def add(self, value: Any, owner: str) -> Pickled:
        """Pickle a value.

        Raises:
            Exception: whatever pickling raised.
        """
        pickled, _ = self._pickle(value)
        self.need(pickled.needs, owner)
        return pickled

    def why_not(self, value: Any) -> Exception | None:
        """What keeps a value from being pickled; None: nothing does."""
        try:
            self._pickle(value)
        except Exception as error:  # noqa: BLE001 - pickling calls code of the user's, which may raise anything
            return error
        return None

    def need(self, wanted: Iterable[str], owner: str) -> None:
        """Have globals of the script travel."""
        for name in wanted:
            self._asked_by.setdefault(name, owner)

    def need_as(self, other: Collector) -> None:
        """Have the globals of the script travel that travelled with another, as far as they are what they were."""
        self._liked = {name for name, value in other._held.items() if self._globals.get(name) is value}

    def need_everything(self) -> None:
        """Have all that can travel do so: for a process that may be asked for anything. Nothing of it is an error."""
        for name, value in list(self._globals.items()):
            if name not in _OF_EVERY_MODULE and name not in self._drafts:
                with contextlib.suppress(Exception):
                    self._drafts[name] = self._draft(name, value)

    def finish(self) -> tuple[Snapshot, list[Buffer]]:
        """The script as far as it travels, and its large buffers.

        Raises:
            SerializationError: needed globals that cannot be pickled, one in each line: who needs them, and where they
                are set.
        """
        failures = self._draft_what_is_needed()
        if failures:
            raise errors.SerializationError("\n".join(failures))
        self._draft_what_is_cheap()
        buffers: list[Buffer] = []
        units = []
        for group in self._groups():
            pickled = self._drafts[group[0]].pickled
            if len(group) > 1:
                pickled, _ = self._pickle_unit({name: self._drafts[name].value for name in group})
            places = range(len(buffers), len(buffers) + len(pickled.buffers))
            buffers += pickled.buffers
            needs = tuple(dict.fromkeys(need for name in group for need in self._drafts[name].pickled.needs))
            units.append(Unit(group, pickled.stream, needs, tuple(places)))
        self._held = {name: draft.value for name, draft in self._drafts.items()}
        self._finished = {
            name: Pickled(b"", draft.pickled.needs, [], draft.pickled.imports) for name, draft in self._drafts.items()
        }
        spec = getattr(self.main, "__spec__", None)
        snapshot = Snapshot(
            file=getattr(self.main, "__file__", None),
            spec=getattr(spec, "name", None),
            package=getattr(self.main, "__package__", None),
            doc=self.main.__doc__,
            units=tuple(units),
            sources={file: text for file in sorted(self.files) if (text := _source(file, self._globals))},
        )
        self._drafts.clear()
        return snapshot, buffers

    def imports(self, pickled: Pickled) -> Imports:
        """The libraries that a value brings along, with what it needs of the script; once all is finished."""
        needed: dict[str, Pickled] = {}
        left = list(pickled.needs)
        while left:
            name = left.pop()
            if name not in needed:
                needed[name] = self._finished[name]
                left += needed[name].needs
        return pickled.imports.union(each.imports for each in needed.values())

    def holds(self, name: str, value: object) -> bool:
        """See :class:`kourou.script.names.Scope`."""
        return name in self._held and self._held[name] is value

    def covers(self, other: Collector) -> bool:
        """Whether whoever has this has all that travelled with another."""
        return all(self.holds(name, value) for name, value in other._held.items())

    def close(self) -> None:
        """Let go of the script's globals, and of what reducers keep."""
        self._held = {}
        self.reducers = {}

    def global_name(self, value: Any) -> str | None:
        """The global of the script that a definition is found below, or that pickles as no more than its name."""
        return names.root_of(value) if is_definition(value) else self._own_name(value)

    def _own_name(self, value: Any) -> str | None:
        if unpicklable.pickles_its_attributes(type(value)) or getattr(value, "__module__", None) not in names.MODULES:
            return None
        try:
            name = value.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        except Exception:  # noqa: BLE001 - pickling it says so
            return None
        return name if isinstance(name, str) and self._globals.get(name) is value else None

    def _draft_what_is_needed(self) -> list[str]:
        failures = []
        while waiting := [name for name in self._asked_by if name not in self._drafts]:
            for name in waiting:
                value = self._globals[name]
                try:
                    self._drafts[name] = draft = self._draft(name, value)
                except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
                    failures.append(unpicklable.describe_global(name, value, self._asked_by, error, self.why_not))
                    self._drafts[name] = draft = _Draft(value, Pickled(b"", (), []), {})
                self.need(draft.pickled.needs, name)
        return failures

    def _draft_what_is_cheap(self) -> None:
        """Definitions whose own globals are definitions, modules and small constants, or travel anyway."""
        cheap: dict[str, _Draft] = {}
        for name, value in list(self._globals.items()):
            if name in self._drafts or name in _OF_EVERY_MODULE:
                continue
            if self.global_name(value) == name or _is_imported(value) or _is_plain(value) or name in self._liked:
                with contextlib.suppress(Exception):
                    cheap[name] = self._draft(name, value)
        dropped = [""]
        while dropped:
            known = self._drafts.keys() | cheap.keys()
            dropped = [name for name, draft in cheap.items() if not known.issuperset(draft.pickled.needs)]
            for name in dropped:
                del cheap[name]
        self._drafts.update(cheap)

    def _draft(self, name: str, value: Any) -> _Draft:
        return _Draft(value, *self._pickle_unit({name: value}))

    def _groups(self) -> list[tuple[str, ...]]:
        """The names, those together whose values share parts; definitions come first."""
        group_of: dict[str, list[str]] = {name: [name] for name in self._drafts}
        owners: dict[int, str] = {}
        for name, draft in self._drafts.items():
            for key, part in draft.parts.items():
                mine, others = group_of[name], group_of[owners.setdefault(key, name)]
                if mine is not others and names.home_of(part) is None:
                    others += mine
                    group_of.update(dict.fromkeys(mine, others))
        groups = {id(group): group for group in group_of.values()}.values()
        return [tuple(sorted(group, key=lambda name: not self._defines(name))) for group in groups]

    def _defines(self, name: str) -> bool:
        return self.global_name(self._globals[name]) == name

    def _pickle_unit(self, values: Mapping[str, Any]) -> tuple[Pickled, dict[int, Any]]:
        """Pickle globals, the definitions among them first, as :class:`~kourou.script.snapshot.Unit` has them."""
        definitions = {name: value for name, value in values.items() if self.global_name(value) == name}
        others = tuple(value for name, value in values.items() if name not in definitions)
        return self._pickle((tuple(definitions.values()), _REST, others), definitions)

    def _pickle(self, value: Any, defines: Iterable[str] = ()) -> tuple[Pickled, dict[int, Any]]:
        """Pickle a value; these globals, which it holds, by value."""
        stream = io.BytesIO()
        buffers: list[Buffer] = []

        def keep(buffer: pickle.PickleBuffer) -> bool:
            view = buffer.raw()
            if view.nbytes < _OUT_OF_BAND_BYTES:
                return True
            buffers.append(view)
            return False

        pickler = _ScriptPickler(self, stream, keep, frozenset(defines))
        pickler.dump(value)
        parts = {key: part for key, (_, part) in pickler.memo.copy().items()}
        pickled = Pickled(stream.getvalue(), tuple(pickler.needs), buffers, self._finder.of(parts.values()))
        return pickled, {key: part for key, part in parts.items() if not _is_anonymous(part)}


class _ScriptPickler(ByValuePickler):
    """Pickles what the script defines as names, and notes them; all but the definitions that it is there for.

    Those are begun where they are met, and filled at _REST: they, and what they are filled with, refer to each other.
    """

    def __init__(
        self,
        collector: Collector,
        stream: io.BytesIO,
        keep: Callable[[pickle.PickleBuffer], bool],
        defines: frozenset[str],
    ) -> None:
        self.dispatch_table = {**ByValuePickler.dispatch_table, **collector.reducers}  # read by the next line only
        super().__init__(stream, protocol=5, buffer_callback=keep)
        self.needs: dict[str, None] = {}
        self._collector = collector
        self._globals = vars(collector.main)
        self._defines = defines
        self._partial: dict[str, tuple[Any, ...]] = {}  # a definition → it, and how it is filled

    def reducer_override(self, obj: Any) -> Any:
        reduced: Any = self._collector.reduce(obj)
        if reduced is not None:
            return reduced
        if obj is _REST:
            return tuple, ([_Filling(name, *how) for name, how in self._partial.items()],)
        if isinstance(obj, _Filling):
            return partial_definitions.fill, tuple(obj)
        name = self._collector.global_name(obj)
        if name is None and unpicklable.pickles_its_attributes(type(obj)) and (home := names.home_of(obj)):
            return names.at_home, home
        if name is None or name in self._defines:
            self._need_hints(obj)
            return self.by_value(obj) if name is None else self._defined(name, obj)
        self.needs[name] = None
        return NotImplemented if is_definition(obj) else name  # cloudpickle has a way of its own for type variables

    def _defined(self, name: str, value: Any) -> Any:
        reduced = self.definition(value) if is_definition(value) else reduce_named(value)
        return reduced if name in self._partial else self._begin(name, value, reduced)

    def _begin(self, name: str, value: Any, reduced: Any) -> Any:
        if not isinstance(reduced, tuple):
            return reduced
        make, arguments, *rest = reduced
        if rest[3:] and rest[3] is not None:
            state, _, _, set_state = rest
            self._partial[name] = value, set_state, state
            rest = []
        return partial_definitions.begin, (name, make, arguments), *rest

    def _need_hints(self, value: Any) -> None:
        """``typing.get_type_hints`` evaluates annotations that are text, and looks for their names in the globals."""
        hints: Iterable[Any] = ()
        if isinstance(value, typing.ForwardRef):
            hints = (value.__forward_arg__,)
        elif is_definition(value) and value.__module__ in names.MODULES:
            with contextlib.suppress(Exception):  # Python 3.14 evaluates them only now
                hints = value.__annotations__.values()
        words = (word for hint in hints if isinstance(hint, str) for word in _WORD.findall(hint))
        self.needs.update((word, None) for word in words if word in self._globals and word not in _OF_EVERY_MODULE)

    def _dynamic_function_reduce(self, func: types.FunctionType) -> Any:
        """Functions of the script get the globals of the script, not a copy of those that they use."""
        make, arguments, state, *rest = super()._dynamic_function_reduce(func)
        if func.__globals__ is not self._globals:
            return make, arguments, state, *rest
        code, _, *others = arguments
        attributes, slots = state
        self._collector.files.add(code.co_filename)
        self.needs.update(dict.fromkeys(name for name in slots["__globals__"] if name not in _OF_EVERY_MODULE))
        return make, (code, _GLOBALS, *others), (attributes, {**slots, "__globals__": {}}), *rest


class _Filling(NamedTuple):
    """Stands in a pickle for what a definition is filled with."""

    name: str
    made: Any
    set_state: Callable[[Any, Any], object]
    state: Any


class _Rest:
    """Stands in a pickle for the filling of all definitions that were begun before."""


_REST = _Rest()


class _Globals:
    """Stands in a pickle for the globals of the script."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _globals, ()


_GLOBALS = _Globals()


def _globals() -> dict[str, Any]:
    return vars(sys.modules["__main__"])


def _is_anonymous(part: object) -> bool:
    """Whether nobody can tell a copy of a part from it, or unpickling finds the same one anyway."""
    return isinstance(part, _ANONYMOUS) or type(part).__module__ in _MACHINERY


def _is_imported(value: object) -> bool:
    return isinstance(value, types.ModuleType) and sys.modules.get(value.__name__) is value


def _is_plain(value: object) -> bool:
    """Whether a value is a small constant, or consists of some; one that contains itself is not."""
    seen, left = 0, [value]
    while left:
        part = left.pop()
        if isinstance(part, tuple) or type(part) in (list, set, frozenset):
            left += cast("Iterable[object]", part)
        elif type(part) is dict:
            left += [*part.keys(), *part.values()]
        elif not isinstance(part, _PLAIN) or (isinstance(part, (str, bytes)) and len(part) > _LONGEST_PLAIN):
            return False
        seen += 1
        if seen + len(left) > _LONGEST_PLAIN:
            return False
    return True


def _source(file: str, script_globals: Mapping[str, Any]) -> str:
    """The text that code was compiled from; empty if nobody knows."""
    lines = linecache.getlines(file, dict(script_globals))
    if lines:
        return "".join(lines)
    if file == "<string>" and sys.argv[:1] == ["-c"] and len(sys.orig_argv) > len(sys.argv):
        return sys.orig_argv[-len(sys.argv)]
    return ""
