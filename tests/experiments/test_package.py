"""The package as a whole: cheap to import, and one list of names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kourou import experiments

HEAVY = {"asyncio", "grpc", "matplotlib", "numpy", "pandas", "scipy", "tomllib", "torch", "yaml"}


def test_importing_it_loads_nothing_heavy() -> None:
    light = "e.iqm, e.compare_scores, e.load_sweep, e.make_affinity, e.seed_globals, e.log, e.read_metrics"
    code = f"import sys, kourou.experiments as e; {light}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "kourou.experiments.results.statistics" in loaded
    assert not HEAVY.intersection(loaded)


def test_every_name_is_there_once() -> None:
    names = vars(experiments)["__all__"]
    assert len(set(names)) == len(names)
    assert all(hasattr(experiments, name) for name in names)


@pytest.mark.parametrize("name", ["AffinityError", "DescriptionError", "VariantKeyError", "VariantTypeError"])
def test_every_error_is_kourous(name: str) -> None:
    assert issubclass(getattr(experiments, name), experiments.ExperimentError)
