"""Tests of managers that need a process in which no other test has used gRPC or torch: forks are refused there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
def test_forks_from_a_process_of_their_own(tmp_path: Path) -> None:
    here = Path(__file__).parent
    files = [here / f"test_{name}.py" for name in ("managers", "manager_torch", "manager_tuning")]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "alone", "-p", "no:cacheprovider", "--basetemp"]
    done = subprocess.run([*command, tmp_path / "inner", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
