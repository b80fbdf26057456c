"""The package as a whole: cheap to import, and one list of names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kourou import experiments

HEAVY = {"asyncio", "grpc", "matplotlib", "numpy", "pandas", "scipy", "tomllib", "torch", "yaml"}


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, kourou.experiments; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "kourou.experiments.results.statistics" in loaded
    assert not HEAVY.intersection(loaded)


def test_every_name_is_there_once() -> None:
    assert len(set(experiments.__all__)) == len(experiments.__all__)
    assert all(hasattr(experiments, name) for name in experiments.__all__)


@pytest.mark.parametrize("name", ["AffinityError", "DescriptionError", "VariantKeyError", "VariantTypeError"])
def test_every_error_is_kourous(name: str) -> None:
    assert issubclass(getattr(experiments, name), experiments.ExperimentError)
