"""``python -m kourou.compat [--keep PROJECT]... (script.py | -m module) ARGS``: run another project's program."""

from __future__ import annotations

import importlib.util
import sys
import types
from importlib.abc import InspectLoader
from pathlib import Path
from typing import Any

from kourou.compat import PROJECTS, install
from kourou.runtime.interpreter.startup import print_failure
from kourou.runtime.stopping import exit_signals
from kourou.working_folder import working_folder

_USAGE = f"""\
usage: python -m kourou.compat [--keep PROJECT]... (script.py | -m module) [ARGS]

Runs a program for {", ".join(PROJECTS)} with kourou in their place.
--keep: leave a project what is installed."""


def main(arguments: list[str]) -> None:
    """Run the program that a command line names, as ``__main__``, and wait for the runs that it launched."""
    projects = list(PROJECTS)
    while arguments[:1] == ["--keep"] and len(arguments) > 1 and arguments[1] in projects:
        projects.remove(arguments[1])
        del arguments[:2]
    if not arguments or (arguments[0] != "-m" and arguments[0].startswith("-")) or arguments == ["-m"]:
        asked = arguments[:1] in (["-h"], ["--help"])
        print(_USAGE, file=sys.stdout if asked else sys.stderr)
        raise SystemExit(0 if asked else 2)
    is_module = arguments[0] == "-m"
    sys.path[0] = str(working_folder() if is_module else Path(arguments[0]).parent.absolute())
    if projects:
        install(*projects)
    module, code = _module(arguments[1]) if is_module else _script(arguments[0])
    sys.argv[:] = [module.__file__ or "", *arguments[2:]] if is_module else arguments
    sys.modules["__main__"] = module
    try:
        exec(code, vars(module))  # noqa: S102 - the program that the user asked for
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    except Exception as error:  # noqa: BLE001 - it is the program's, and is shown without our frames
        print_failure(error)
        exit_signals.end_with("the launcher ended with an error")
        raise SystemExit(1) from None
    exit_signals.wait_for_runs()


def _script(path: str) -> tuple[types.ModuleType, types.CodeType]:
    """A file as the interpreter would run it."""
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        raise SystemExit(f"kourou.compat: can't open {path}: {error.strerror}") from None
    return _main(path), compile(source, path, "exec")


def _module(name: str) -> tuple[types.ModuleType, Any]:
    """A module, or a package's ``__main__``, as ``python -m`` would run it."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a package imports what is not there
        spec = None
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = importlib.util.find_spec(name)
    loader = spec.loader if spec is not None else None
    code = loader.get_code(name) if isinstance(loader, InspectLoader) else None
    if spec is None or code is None:
        raise SystemExit(f"kourou.compat: there is no module {name} to run")
    module = _main(spec.origin or name)
    module.__spec__, module.__package__, module.__loader__ = spec, spec.parent, loader
    return module, code


def _main(file: str) -> types.ModuleType:
    module = types.ModuleType("__main__")
    module.__file__, module.__builtins__ = file, __builtins__  # type: ignore[attr-defined]
    module.__package__ = None
    return module


if __name__ == "__main__":
    main(sys.argv[1:])
