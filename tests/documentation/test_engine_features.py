"""The table of engines and what they can is what their classes and the tests of the contract say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from documentation.pages import DOCS
from kourou.runtime.launchers.engines.batch_systems import batch_system
from kourou.runtime.model.engines import known_engines
from kourou.testing.contracts.engines import ENGINE_CHECKS

ENGINES = ("slurm", "ray", "kubernetes")
CHECKED_ON = {
    "slurm": ("e2e/test_slurm_programs.py", "a real Slurm, three slurmd on one machine"),
    "ray": ("e2e/test_ray.py", "Ray, several nodes on one machine"),
    "kubernetes": ("e2e/test_kubernetes.py", "a fake cluster, whose pods are processes"),
}
TESTS = Path(__file__).parents[1]


def features(name: str) -> dict[str, str]:
    """What an engine can."""
    kind = known_engines()[name]
    batch = batch_system(name) if kind.batch else None
    fields = {field.name for field in dataclasses.fields(kind)}
    shares_folder = batch is None or batch.shares_folder
    test, where = CHECKED_ON[name]
    text = (TESTS / test).read_text("utf-8")
    checked = all(check.__name__ in text for check in ENGINE_CHECKS) or "ENGINE_CHECKS" in text
    return {
        "launcher here: `lp.launch`, `kourou run`": yes(bool(kind.implementation)),
        "launcher there: `lp.submit`, `kourou submit`": yes(batch is not None),
        "without a shared file system": yes(not shares_folder),
        "the code travels": yes("tree" in fields),
        "each host gets": "what its own nodes ask for" if not kind.uniform else "what the fullest one needs",
        "a launcher that was stopped by the engine begins again": yes(bool({"requeues", "restarts"} & fields)),
        "a lost agent is started again by": "Kubernetes, and the pod" if name == "kubernetes" else "the launcher",
        f"the contract's {len(ENGINE_CHECKS)} checks are passed on": where if checked else "nothing",
    }


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
    page = (DOCS / "engines.md").read_text("utf-8")
    if table() not in page:
        pytest.fail(f"docs/engines.md has to have:\n\n{table()}")


def test_every_engine_of_users_is_in_it() -> None:
    assert {name for name, kind in known_engines().items() if kind.__module__.startswith("kourou.runtime")} == set(
        ENGINES
    )
