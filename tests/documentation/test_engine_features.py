"""The table of engines and what they can is made of their classes, and of the tests that run the contract's checks.

``python -m documentation.test_engine_features``, in ``tests``, writes it into the page.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

import pytest
from _pytest.mark import ParameterSet

from documentation.pages import DOCS
from kourou.runtime.launchers.engines.batch_systems import batch_system
from kourou.runtime.model.engines import EngineOptions, known_engines
from kourou.testing.contracts.engines import ENGINE_CHECKS

ENGINES = ("slurm", "ray", "kubernetes")
CHECKED_ON = {
    "slurm": ("e2e.test_slurm_programs", "a real Slurm, three slurmd on one machine"),
    "ray": ("e2e.test_ray", "Ray, several nodes on one machine"),
    "kubernetes": ("e2e.test_kubernetes", "a fake cluster, whose pods are processes"),
}
PAGE = DOCS / "engines.md"


def features(name: str) -> dict[str, str]:
    """What an engine can."""
    kind = known_engines()[name]
    batch = batch_system(name) if kind.batch else None
    fields = {field.name for field in dataclasses.fields(kind)}
    shares_folder = batch is None or batch.shares_folder
    module, where = CHECKED_ON[name]
    checked = checks_of(importlib.import_module(module))
    return {
        "launcher here: `lp.launch`, `kourou run`": yes(bool(kind.implementation)),
        "launcher there: `lp.submit`, `kourou submit`": yes(batch is not None),
        "without a shared file system": yes(not shares_folder),
        "the code travels": yes("tree" in fields),
        "each host gets": "what its own nodes ask for" if not kind.uniform else "what the fullest one needs",
        "a launcher that was stopped by the engine begins again": yes(bool({"requeues", "restarts"} & fields)),
        "a lost agent is started again by": "Kubernetes, and the pod" if name == "kubernetes" else "the launcher",
        **{feature_of(check): checked.get(check, "not checked") for check in ENGINE_CHECKS},
        "that is checked on": where,
    }


def feature_of(check: Callable[[EngineOptions], None]) -> str:
    """What a check of the contract says that it looks at."""
    return str(check.__doc__).partition("\n")[0].rstrip(".").replace("``", "`")


def checks_of(module: ModuleType) -> dict[Callable[[EngineOptions], None], str]:
    """The checks of the contract that a module of tests runs, and when."""
    found: dict[Callable[[EngineOptions], None], str] = {}
    for function in vars(module).values():
        own = [*_marks(module), *_marks(function)]
        for mark in own:
            if mark.name != "parametrize" or mark.args[0] != "check":
                continue
            for each in mark.args[1]:
                [check], marks = (each.values, each.marks) if isinstance(each, ParameterSet) else ([each], ())
                is_long = any(known.name == "soak" for known in (*own, *marks))
                when = "checked in long runs of the tests" if is_long else "checked with every change"
                found[cast("Callable[[EngineOptions], None]", check)] = when
    return found


def _marks(of: object) -> list[pytest.Mark]:
    marks: Any = getattr(of, "pytestmark", None)
    decorators: list[Any] = marks if isinstance(marks, list) else []
    return [each.mark if isinstance(each, pytest.MarkDecorator) else each for each in decorators]


def yes(holds: bool) -> str:
    return "yes" if holds else "no"


def table() -> str:
    """As the page has it."""
    columns = {name: features(name) for name in ENGINES}
    lines = [f"| | {' | '.join(f'`{name}`' for name in columns)} |", f"|{' --- |' * (len(columns) + 1)}"]
    for what in next(iter(columns.values())):
        lines.append(f"| {what} | {' | '.join(column[what] for column in columns.values())} |")
    return "\n".join(lines)


def test_the_page_has_the_table() -> None:
    if table() not in PAGE.read_text("utf-8"):
        pytest.fail(f"{PAGE.name} says something else: `python -m documentation.test_engine_features` writes it")


def test_every_engine_of_users_is_in_it() -> None:
    assert {name for name, kind in known_engines().items() if kind.__module__.startswith("kourou.runtime")} == set(
        ENGINES
    )


if __name__ == "__main__":
    old = re.compile(r"^\| \| `slurm`.*?(?=\n\n)", re.MULTILINE | re.DOTALL)
    PAGE.write_text(old.sub(lambda _: table(), PAGE.read_text("utf-8")), encoding="utf-8")
