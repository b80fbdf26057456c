"""Programs written for Launchpad, Courier, Reverb (without TensorFlow) and torchrunx, run as they are.

``python -m kourou.compat script.py ARGS`` (or ``-m module ARGS``) runs one; so does a script whose first lines are::

    import kourou.compat

    kourou.compat.install()

From then on ``import launchpad``, ``courier``, ``reverb`` and ``torchrunx`` find kourou, with the modules below them
that programs import. They are found through ``sys.path``, which the processes of a run share, on all hosts.

What kourou does not have is there too, so that it can be imported and be named in annotations; whoever uses it gets
:class:`kourou.errors.NotSupported`, which says what to use instead.

Reading order: this, modules, absent, then a module for each of the projects.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kourou.compat.modules import View

__all__ = ["PROJECTS", "install"]

PROJECTS = ("launchpad", "courier", "reverb", "torchrunx")
"""Whose programs run here."""


def install(*projects: str) -> None:
    """Let ``import launchpad`` and the like find kourou, in this process and in those of the programs that it launches.

    Args:
        projects: which of :data:`PROJECTS`; none given, all of them. The others stay what is installed.

    Raises:
        ValueError: not one of them.
        ImportError: the project's own package was imported already.
    """
    chosen = projects or PROJECTS
    for name in chosen:
        if name not in PROJECTS:
            raise ValueError(f"kourou.compat has {', '.join(PROJECTS)}, not {name!r}")
        there = sys.modules.get(name)
        if there is not None and not isinstance(there, View):
            raise ImportError(
                f"{name} itself was imported already: kourou.compat.install() comes before that", name=name
            )
    folders = [str(Path(__file__).parent / "on_path" / name) for name in chosen]
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
