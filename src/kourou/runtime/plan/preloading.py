"""Which libraries the processes of a plan are forked with, imported already."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

FORKABLE = frozenset({"gymnasium", "kourou.replay", "kourou.weights", "numpy", "torch"})
"""Those whose import starts nothing that a fork cannot carry along; each zygote makes sure of that."""

_SLOW = "torch"  # a second: who does not need it does not wait for it
_PACKAGES = ("site-packages", "dist-packages")


def choose(imported: Mapping[str, Collection[str]], restarting: Collection[str]) -> dict[str, tuple[str, ...]]:
    """What each process is forked with: what several of them import, or one that may start again."""
    chosen: dict[str, tuple[str, ...]] = {}
    for slow in (False, True):
        alike = {name: libraries for name, libraries in imported.items() if (_SLOW in libraries) is slow}
        uses = Counter(library for libraries in alike.values() for library in libraries)
        uses.update(library for name in alike.keys() & restarting for library in alike[name])
        shared = tuple(sorted(library for library, times in uses.items() if times > 1 and installed(library)))
        chosen |= dict.fromkeys(alike, shared)
    return chosen


def installed(library: str) -> bool:
    """Whether the name is that of an installed package, and not of a file of the user's that stands in its place."""
    if library.startswith("kourou."):
        return True  # this one
    try:
        spec = importlib.util.find_spec(library)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).parent.parent.name in _PACKAGES
