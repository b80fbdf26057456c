"""Runs of a test's own, in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.commands import LiveRun


@pytest.fixture
def launched(no_leaks: object, tmp_path: Path) -> Iterator[Callable[..., LiveRun]]:
    """``launched(function, *options)`` launches a program of programs.py; it is ended with the test."""
    runs: list[LiveRun] = []

    def launch(function: str, *options: str) -> LiveRun:
        runs.append(LiveRun.start(tmp_path / "launched", function, *options))
        return runs[-1]

    yield launch
    for run in runs:
        run.end()
