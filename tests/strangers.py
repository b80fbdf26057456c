"""Another user of this host, for tests that run as root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def give_away(*paths: Path) -> None:
    """Let files or folders belong to another user."""
    for path in paths:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def as_stranger(script: str, *words: str) -> subprocess.Popen[str]:
    """Run a script in an interpreter of another user; it has ``os``, ``socket`` and ``sys``, and cannot import more."""
    become = f"import os, socket, sys; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", become + script, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
