"""Launchers for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kourou.spmd import Launcher
from spmd.machines import WITHOUT_TORCH


@pytest.fixture(scope="session")
def shared() -> Iterator[Launcher]:
    """A launcher of two workers with gloo whose zygote all tests share: only the first waits until it has torch."""
    with Launcher(["localhost"], workers_per_host=2, backend="gloo").set_logging_handlers(None) as launcher:
        yield launcher


@pytest.fixture
def gloo2(shared: Launcher) -> Iterator[Launcher]:
    """The same, with the fields it had at first when the test ends."""
    before = {name: value for name, value in vars(shared).items() if not name.startswith("_")}
    yield shared
    vars(shared).update(before)


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts that the test starts, its own launchers, and their workers, are as where torch is not installed."""
    monkeypatch.setenv("PYTHONPATH", WITHOUT_TORCH)
    monkeypatch.setattr("kourou.spmd.hosts.local.torch_is_there", lambda: False)


@pytest.fixture(autouse=True)
def log_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where log files go, should a test have some."""
    path = tmp_path / "logs of spmd"
    monkeypatch.setenv("KOUROU_LOG_DIR", str(path))
    return path
