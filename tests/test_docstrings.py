"""Every public method says what it does, or overrides one that does: what an interface promises is told there, once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import kourou

PACKAGE = Path(kourou.__file__).parent
Method = ast.FunctionDef | ast.AsyncFunctionDef


def parsed_classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    for path in PACKAGE.rglob("*.py"):
        if not path.stem.endswith("_pb2"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    yield path, node


@pytest.mark.usefixtures("uncollected")
def test_public_methods_are_described() -> None:
    listed = list(parsed_classes())
    ours: dict[str, list[ast.ClassDef]] = {}
    for _, kind in listed:
        ours.setdefault(kind.name, []).append(kind)

    def bases(kind: ast.ClassDef) -> list[str]:
        names = [ast.unparse(base).partition("[")[0] for base in kind.bases]
        return [name if name == "asyncio.Protocol" else name.rpartition(".")[2] for name in names]

    def is_described(method: str, kind: ast.ClassDef) -> bool:
        own = [each for each in kind.body if isinstance(each, Method) and each.name == method]
        if any(map(ast.get_docstring, own)):
            return True
        above = [
            base for base in bases(kind) if base not in {"Protocol", "Generic", "NamedTuple", "TypedDict", "object"}
        ]
        return any(
            base not in ours or any(is_described(method, each) for each in ours[base] if each is not kind)
            for base in above
        )

    missing = [
        f"{path.relative_to(PACKAGE)}:{method.lineno} {kind.name}.{method.name}"
        for path, kind in listed
        for method in kind.body
        if isinstance(method, Method) and not f"{kind.name} {method.name}".startswith("_") and method.name[0] != "_"
        if not any(".setter" in ast.unparse(each) or "overload" in ast.unparse(each) for each in method.decorator_list)
        if not is_described(method.name, kind)
    ]
    assert missing == []
