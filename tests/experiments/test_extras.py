"""Optional packages: the error of a missing one names an extra that has it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from experiments.agents import Walk
from kourou import errors, experiments, extras
from kourou.experiments.describe.configfile import read_config

EXTRAS = read_config(Path(__file__).parents[2] / "pyproject.toml")["project"]["optional-dependencies"]
EVENTS = Path(__file__).parents[1] / "data" / "golden" / "events.out.tfevents.example"
SOURCES = [file.read_text(encoding="utf-8") for file in Path(experiments.__file__).parent.rglob("*.py")]
NAMES = {name for text in SOURCES for name in re.findall(r'load_extra\(f?"(\w+)', text)} - sys.stdlib_module_names


@pytest.mark.parametrize("module", sorted(NAMES))
def test_the_extra_that_is_named_installs_the_package(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    # given a package that is not installed
    monkeypatch.setitem(sys.modules, module, None)
    # when it is needed
    with pytest.raises(errors.MissingExtra) as caught:
        extras.load_extra(module)
    # then the extra that the error names has it
    requirements = EXTRAS[caught.value.extra]
    assert any(re.match(rf"{caught.value.package}\b", requirement) for requirement in requirements)


def test_tensorboard_is_missed_before_any_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*sys.modules]:  # other tests have loaded parts of it
        if name.startswith("tensorboard."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(errors.MissingExtra, match=r"kourou\[tensorboard\]"):
        experiments.ExperimentManager(Walk, fit_budget=1, output_dir=tmp_path, enable_tensorboard=True)
    with pytest.raises(errors.MissingExtra, match=r"kourou\[tensorboard\]"):
        experiments.read_events(EVENTS)
