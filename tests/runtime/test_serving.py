"""A node's server closes, whatever interrupts come."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "interrupted_serving.py"


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="on Python 3.10 an interrupt may come between a context's start and its with"
)
def test_a_server_is_closed_wherever_one_interrupt_or_two_come() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout.startswith("interrupted at "), done.stderr
