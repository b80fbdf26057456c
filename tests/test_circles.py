"""No module imports itself by way of others, not even for types or within a function."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

import kourou

PACKAGE = Path(kourou.__file__).parent


def module_name(path: Path) -> str:
    return ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


@pytest.mark.usefixtures("uncollected")
def test_no_modules_are_in_a_circle() -> None:
    # Given all modules; what a package re-exports stands for the modules that it names
    modules = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    imported: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        if path.name == "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = (f"{node.module}.{alias.name}" for alias in node.names)
                imported[name] |= {each if each in modules else node.module for each in names} & modules.keys() - {name}
    assert sum(map(len, imported.values())) > len(modules)
    # When they are put in order, then there is one
    graphlib.TopologicalSorter(imported).prepare()
