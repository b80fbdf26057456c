"""What docs/migrating.md names is there."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import kourou
from kourou import replay, spmd

PAGE = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text(encoding="utf-8")
PROJECTS = ["Launchpad", "Reverb", "torchrunx", "Sample Factory's launcher", "rlpyt", "rlberry"]
HABITS = [
    "Ray's actors",
    "Monarch",
    "submitit, and Hydra's launchers",
]  # names are ours alone; tests/documentation runs the programs
SECTIONS = dict(part.split("\n", 1) for part in PAGE.split("\n## ")[1:])
ROOTS = {"lp": kourou, "kourou": kourou, "replay": replay, "spmd": spmd}


def imported(block: str) -> dict[str, Any]:
    """What the imports of a block bring."""
    names: dict[str, Any] = {}
    for statement in ast.parse(block).body:
        assert isinstance(statement, (ast.Import, ast.ImportFrom)), ast.unparse(statement)
        exec(ast.unparse(statement), names)
    return names


def rows(section: str) -> list[list[str]]:
    """The cells of its table."""
    lines = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line] for line in lines if line[0].strip() not in {"there", "---"}]


def resolved(path: str) -> Any:
    """A dotted name; modules on its way are imported."""
    root, *rest = path.split(".")
    found, module = ROOTS[root], ROOTS[root].__name__
    for name in rest:
        module = f"{module}.{name}"
        found = getattr(found, name) if hasattr(found, name) else importlib.import_module(module)
    return found


def test_every_project_is_there() -> None:
    assert sorted(SECTIONS) == sorted(["Old programs as they are", *PROJECTS, *HABITS])


@pytest.mark.parametrize("project", HABITS)
def test_names_that_take_the_place_of_others_are_there(project: str) -> None:
    spans = re.findall(r"`([A-Za-z_]\w*(?:\.\w+)+)", SECTIONS[project])
    looked_up = [resolved(span) for span in spans if span.partition(".")[0] in ROOTS]
    assert len(looked_up) > 3


@pytest.mark.parametrize("project", PROJECTS)
def test_imports_work(project: str) -> None:
    [block] = re.findall(r"```python\n(.*?)```", SECTIONS[project], re.DOTALL)
    assert len(imported(block)) > 1


@pytest.mark.parametrize("project", PROJECTS)
def test_names_of_this_package_are_there(project: str) -> None:
    [block] = re.findall(r"```python\n(.*?)```", SECTIONS[project], re.DOTALL)
    names = imported(block)
    looked_up = 0
    for there, here, _ in rows(SECTIONS[project]):
        # what is the same has to be there under its own name, and what is dotted under that one
        for span in re.findall(r"`([A-Za-z_]\w*(?:\.\w+)*)", here):
            if span.partition(".")[0] in ROOTS and "." in span:
                resolved(span)
                looked_up += 1
        if here.startswith("the same"):
            for span in re.findall(r"`(lp\.\w+|[A-Za-z_]\w*)(?=[`(])", there):
                assert resolved(span) if "." in span else span in names, span
                looked_up += 1
    assert looked_up
