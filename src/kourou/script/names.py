"""Which definitions of ``__main__`` the processes that this one speaks with have under the same name.

Imported by everything that pickles, so it imports next to nothing.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any, Protocol

MODULES = frozenset({"__main__", "__mp_main__"})  # the second is multiprocessing's word for the first, in its children


Cached = type(functools.lru_cache(lambda: None))
"""What ``functools.cache`` and ``lru_cache`` make of a function."""

DEFINITIONS = (types.FunctionType, type, Cached)
"""The types of what pickle knows by its module and name: functions (also cached ones) and classes."""


def is_definition(value: object) -> bool:
    """Whether a value is one of them."""
    return isinstance(value, DEFINITIONS)


class Scope(Protocol):
    """What the processes of one run have of the script."""

    def holds(self, name: str, value: object) -> bool:
        """Whether they have ``value`` as the global ``name`` of their ``__main__``."""
        ...

    def close(self) -> None:
        """The run has ended: let go of what was kept for it."""


class _Anything:
    """The scope of a run whose nodes are threads of this process."""

    def holds(self, name: str, value: object) -> bool:
        del name, value
        return True

    def close(self) -> None:
        pass


ANYTHING: Scope = _Anything()

_MISSING = object()
_scopes: list[Scope] = []  # one for each run that this process takes part in


@contextlib.contextmanager
def shared_with(scope: Scope) -> Iterator[None]:
    """While entered, this process speaks with others that have ``scope``."""
    _scopes.append(scope)
    try:
        yield
    finally:
        _scopes.remove(scope)


def is_shared(value: Any) -> bool:
    """Whether a function or class may travel as its name, because everybody whom this process speaks with has it."""
    if not _scopes or (name := root_of(value)) is None:
        return False
    held = sys.modules["__main__"].__dict__[name]
    return all(scope.holds(name, held) for scope in _scopes.copy())


def root_of(value: Any) -> str | None:
    """The global of ``__main__`` below which a function or class is found; None: it is not found there."""
    if getattr(value, "__module__", None) not in MODULES:
        return None
    name: str = getattr(value, "__qualname__", "")
    main = sys.modules["__main__"].__dict__
    if main.get(name, _MISSING) is value:
        return name
    root, *rest = name.split(".")
    found = main.get(root, _MISSING)
    for inner in rest:
        found = getattr(found, inner, _MISSING)
    return root if found is value else None


def home_of(value: Any) -> tuple[str, str] | None:
    """The module, and the name there, of a sentinel: an object without state that is found by its identity alone."""
    kind = type(value)
    if not _is_bare(value):
        return None
    # Of ``object()`` nobody knows where it was made.
    homes = list(sys.modules) if kind is object else [kind.__module__]
    for home in homes:
        module = sys.modules.get(home)
        if home in MODULES or not isinstance(module, types.ModuleType):
            continue
        for name, other in list(vars(module).items()):
            if other is value:
                return home, name
    return None


def _is_bare(value: Any) -> bool:
    """Whether it pickles as no more than its type, or a name."""
    kind: Any = type(value)
    if kind.__reduce_ex__ is not object.__reduce_ex__ or getattr(value, "__dict__", None):
        return False
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - it cannot be pickled, or its code raises
        return False
    return isinstance(reduced, str) or (not any(reduced[2:]) and reduced[1:2] == ((kind,),))


def at_home(module: str, name: str) -> Any:
    """What a module has under a name."""
    return getattr(importlib.import_module(module), name)


@contextlib.contextmanager
def main_replaced_by(module: types.ModuleType) -> Iterator[None]:
    """While entered, a module is the ``__main__`` of this process, under both of its names."""
    before = {name: sys.modules.get(name) for name in MODULES}  # kept: its code may run, and it needs its globals
    sys.modules.update(dict.fromkeys(MODULES, module))
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old


loading = threading.RLock()
"""Held by a thread that fills ``__main__``: a class in it may be half made."""
loader: int | None = None
"""The thread that holds ``loading``."""
os.register_at_fork(before=loading.acquire, after_in_parent=loading.release, after_in_child=loading.release)


def wait_until_loaded() -> None:
    """Return when no other thread fills ``__main__``; called before something that may refer to it is unpickled."""
    if loader is not None and loader != threading.get_ident():
        with loading:
            pass
