"""What some tests need of the system, and whether it is here: a test is marked ``needs("hosts")``."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["ENGINES", "HOW_TO_GET", "what_is_missing"]

HOW_TO_GET = "`bash .ci/tools`, as root, installs them"

ENGINES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "tmux": ("tmux",),
        "hosts": ("sshd", "ssh", "ssh-keygen", "ip", "unshare"),
        "rsync": ("rsync",),
        "namespaces": ("ip", "unshare", "nsenter", "setpriv"),
        "slurm": ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo", "squeue", "scancel"),
    }
)
"""The commands of each."""

_OF_ROOT = ("hosts", "namespaces", "slurm")  # network namespaces; daemons for many users


@functools.cache
def what_is_missing(engine: str) -> str | None:
    """In words; None when the engine can be used."""
    if engine in _OF_ROOT and os.geteuid() != 0:
        return f"needs {engine}: which only root can make here"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [tool for tool in ENGINES[engine] if shutil.which(tool, path=path) is None]
    return f"needs {engine}: not installed are {', '.join(missing)}" if missing else None
