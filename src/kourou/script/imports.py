"""Which of some libraries a process imports once it unpickles a value, told by what this process has imported."""

from __future__ import annotations

import sys
import types
from collections.abc import Collection, Iterable, Iterator

from kourou.script import names
from kourou.script.snapshot import Imports

_STARTING = ("__init__", "run")  # methods whose code runs as soon as there is an object
_SETS_VARIABLES = ("environ", "putenv")  # before an import, perhaps, which then comes too late
_OWN = "kourou"


class ImportFinder:
    """Finds libraries by the definitions, types and modules that a pickle refers to.

    A module that this process has imported has in its globals what it imported itself; code that begins to run in the
    other process says which modules it imports.

    Args:
        libraries: names of top-level packages to look for.
    """

    def __init__(self, libraries: Collection[str]) -> None:
        self._libraries = frozenset(libraries)
        self._wanted = self._libraries.union(_SETS_VARIABLES)
        self._found: dict[object, frozenset[str]] = {}

    def of(self, parts: Iterable[object]) -> Imports:
        """The libraries that come with the parts of a pickle."""
        if not self._libraries:
            return Imports()
        definitions = {id(found): found for part in parts for found in (part if _home(part) else type(part),)}
        homes = {home for part in definitions.values() if (home := _home(part)) is not None}
        own = [part for part in definitions.values() if _home(part) is not None]
        all_code = (code for part in own for code in _code(part))
        starting = (code for part in own for code in _starting_code(part))
        return Imports(
            at_once=frozenset().union(*map(self._of_module, homes.difference(names.MODULES))),
            by_code=self._libraries & frozenset().union(*map(self._names_in, starting)),
            sets_variables=any(not self._names_in(code).isdisjoint(_SETS_VARIABLES) for code in all_code),
        )

    def _of_module(self, name: str) -> frozenset[str]:
        if name in self._found:
            return self._found[name]
        found: set[str] = set()
        left, seen = [name], {name}
        while left:
            current = left.pop()
            root, _, _ = current.partition(".")
            if root in self._libraries:
                found.add(root)
            elif root != _OWN and root not in sys.stdlib_module_names:
                new = _imported(current) - seen
                seen |= new
                left += new
        self._found[name] = frozenset(found)
        return self._found[name]

    def _names_in(self, code: types.CodeType) -> frozenset[str]:
        """What code imports, besides all else that it refers to."""
        if code not in self._found:
            used = {name.partition(".")[0] for inner in _with_inner(code) for name in inner.co_names}
            self._found[code] = self._wanted.intersection(used)
        return self._found[code]


def _imported(name: str) -> set[str]:
    """The modules that a module imports, as far as its globals tell, and its package."""
    module = sys.modules.get(name)
    found = {name.rpartition(".")[0]} - {""}
    for value in list(vars(module).values()) if module is not None else ():
        home = _home(value)
        # A package gets each of its modules as an attribute, whoever imported that.
        if home and not (isinstance(value, types.ModuleType) and home.startswith(f"{name}.")):
            found.add(home)
    return found


def _home(value: object) -> str | None:
    """The module of a definition, or the name of a module."""
    kind = type(value)
    if issubclass(kind, types.ModuleType):
        home = vars(value).get("__name__")
    elif issubclass(kind, (type, types.FunctionType, types.BuiltinFunctionType)):
        home = getattr(value, "__module__", None)
    else:
        return None
    return home if isinstance(home, str) else None


def _code(part: object) -> Iterator[types.CodeType]:
    """That of a function, or of the methods of a class."""
    found = vars(part).values() if isinstance(part, type) else (part,)
    yield from (each.__code__ for each in found if isinstance(each, types.FunctionType))


def _starting_code(part: object) -> Iterator[types.CodeType]:
    """The code that runs when a node begins which has this definition."""
    if isinstance(part, types.FunctionType):
        *_, outer, name = ("", *part.__qualname__.split("."))
        if outer in {"", "<locals>"} or name in _STARTING:
            yield part.__code__
    elif isinstance(part, type):
        methods = (vars(part).get(name) for name in _STARTING)
        yield from (method.__code__ for method in methods if isinstance(method, types.FunctionType))


def _with_inner(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _with_inner(constant)
