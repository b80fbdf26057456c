"""The public names are a promise: a change shows in tests/data/public_surface.txt and in CHANGELOG.md."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import kourou
from kourou import errors

SURFACE = Path(__file__).parent / "data" / "public_surface.txt"
MODULES = (
    "kourou",
    "kourou.aio",
    "kourou.compat",
    "kourou.courier",
    "kourou.errors",
    "kourou.experiments",
    "kourou.nodes",
    "kourou.replay",
    "kourou.replay.dataset",
    "kourou.replay.rate_limiters",
    "kourou.replay.selectors",
    "kourou.spmd",
    "kourou.testing.contracts",
    "kourou.testing.nvml",
    "kourou.testing.polling",
    "kourou.testing.pytest_plugin",
    "kourou.weights",
)
BASES = (kourou.Node, kourou.Handle, kourou.CourierNode, kourou.NodeContext, kourou.NodeTarget)
"""What authors of node types derive from and are given: their members are promised, too."""


def test_the_public_names_are_the_promised_ones() -> None:
    promised = set(SURFACE.read_text(encoding="utf-8").split())
    there = {f"{name}.{public}" for name in MODULES for public in importlib.import_module(name).__all__}
    there |= {
        f"kourou.{base.__name__}.{member}" for base in BASES for member in dir(base) if not member.startswith("_")
    }
    came, went = sorted(there - promised), sorted(promised - there)
    assert (came, went) == ([], []), f"say so in {SURFACE.name} and in CHANGELOG.md"


@pytest.mark.parametrize("package", ["kourou", "kourou.courier", "kourou.experiments", "kourou.nodes"])
def test_who_checks_types_sees_the_names_that_are_imported_later(package: str) -> None:
    module = importlib.import_module(package)
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    block = next(each for each in tree.body if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING")
    imports = [(each.module, alias) for each in block.body if isinstance(each, ast.ImportFrom) for alias in each.names]
    assert [alias.name for _, alias in imports if alias.asname != alias.name] == []  # they would be private
    given = {alias.name: getattr(importlib.import_module(str(origin)), alias.name) for origin, alias in imports}
    given |= {"CourierClient": kourou.courier.Client} if package == "kourou" else {}
    assert {name: getattr(module, name) for name in module.__all__} == given


@pytest.fixture(params=MODULES)
def module(request) -> ModuleType:
    return importlib.import_module(request.param)


def test_every_public_name_is_there_and_listed_once(module) -> None:
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert len(module.__all__) == len(set(module.__all__))


def test_dir_shows_every_public_name(module) -> None:
    assert set(module.__all__) <= set(dir(module))


STATEMENT = re.compile(r"^(No|Not|Unknown|Unsupported|Missing|Used)[A-Z]|((?<!Deferr)ed|Found|Lost|Unavailable|Busy)$")
TORCHRUNX_NAMES = {"AgentFailedError", "WorkerFailedError"}


def below(error: type[Exception]) -> Iterator[type[Exception]]:
    """The errors of the package, without those that calls make of a handler's own."""
    for child in error.__subclasses__():
        if getattr(sys.modules.get(child.__module__), child.__name__, None) is child:
            yield child
        yield from below(child)


def test_errors_are_named_by_what_happened_or_by_what_they_are_about() -> None:
    importlib.import_module("kourou.experiments.agents.agent")
    names = {error.__name__ for error in below(errors.KourouError) if error.__module__.startswith("kourou.")}
    assert {"NodeExited", "GraphError", "AgentNotSaved"} <= names
    odd = {name for name in names if name.endswith("Error") == bool(STATEMENT.search(name.removesuffix("Error")))}
    assert odd == TORCHRUNX_NAMES


def test_every_error_is_public() -> None:
    defined = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert defined == set(errors.__all__)


NOT_OUR_NAMES = {
    "Reply.result(timeout)": "it is a concurrent.futures.Future",
    "Reply.exception(timeout)": "it is a concurrent.futures.Future",
    "LaunchedExperiment.wait(timeout)": "it stands in for a subprocess.Popen",
    "TrajectoryWriter.flush(timeout_ms)": "Reverb's, in kourou.compat",
    "TrajectoryWriter.end_episode(timeout_ms)": "Reverb's, in kourou.compat",
    "SlurmOptions(timeout)": "text with its unit, as timeout(1) reads it; Sample Factory's --slurm_timeout",
}
"""Time-outs of another name, and why."""


@pytest.mark.usefixtures("uncollected")
def test_time_outs_are_named_by_their_unit() -> None:
    modules = [path.read_text(encoding="utf-8") for path in Path(kourou.__file__).parent.rglob("*.py")]
    named = {name for module in modules if "timeout" in module for name in arguments(ast.parse(module), ())}
    assert {"wait_for_stop(timeout_s)", "Client.sample_batch(timeout_s)", "Launcher(worker_timeout_s)"} <= named
    odd = {name for name in named if re.search(r"timeout\w*\)$", name) and not name.endswith("_s)")}
    assert odd == set(NOT_OUR_NAMES)


def arguments(node: ast.AST, place: tuple[str, ...]) -> Iterator[str]:
    """``place(name)`` of what functions and dataclasses take by name, private ones included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = (*place, child.name)
            if isinstance(child, ast.ClassDef):
                fields = [line.target for line in child.body if isinstance(line, ast.AnnAssign)]
                names = [field.id for field in fields if isinstance(field, ast.Name)]
            else:
                names = [one.arg for one in (*child.args.args, *child.args.kwonlyargs)]
            yield from (f"{'.'.join(inside)}({name})" for name in names)
            yield from arguments(child, inside)
        else:
            yield from arguments(child, place)
