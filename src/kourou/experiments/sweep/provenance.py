"""Where a run comes from: host, versions, commit and what differs from it. Found once a launch."""

from __future__ import annotations

import dataclasses
import getpass
import hashlib
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from kourou.working_folder import working_folder

_GIT_TIMEOUT_S = 10.0
_PACKAGES = ("kourou", "numpy", "torch", "gymnasium", "jax", "tensorflow", "stable-baselines3", "sample-factory")
_SECRETS = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
    """What all runs of one launch have in common."""

    facts: Mapping[str, Any]
    """As JSON holds them."""
    diff: bytes = b""
    """What the working tree differs in from its commit."""

    @classmethod
    def of_this_process(cls, launch_id: str) -> Provenance:
        """Collect the facts. A folder that is no git repository, or a machine without git, has no commit."""
        commit = _git("rev-parse", "HEAD").decode().strip()
        diff = _git("diff", "HEAD") if commit else b""
        git = None
        if commit:
            digest = hashlib.blake2b(diff, digest_size=6).hexdigest() if diff else None
            git = {"commit": commit, "dirty": bool(diff), "diff": f"diff-{digest}.patch" if digest else None}
        facts = {
            "launch": launch_id,
            "host": socket.gethostname(),
            "user": _user(),
            "cwd": str(working_folder()),
            "launcher_argv": sys.orig_argv,
            "git": git,
            "versions": {"python": platform.python_version(), **_versions()},
            "platform": platform.platform(),
        }
        return cls(facts=facts, diff=diff)

    def save_diff(self, folder: Path) -> None:
        """Write the difference to the sweep's folder, once for each content."""
        git = self.facts["git"]
        if git and git["diff"] and not (folder / git["diff"]).exists():
            (folder / git["diff"]).write_bytes(self.diff)

    @staticmethod
    def of_environment(env: Mapping[str, str]) -> dict[str, str]:
        """What a run's environment differs in from the launcher's, without what looks like a secret."""
        return {
            name: "(hidden)" if any(word in name.upper() for word in _SECRETS) else value
            for name, value in sorted(env.items())
            if os.environ.get(name) != value
        }


def _git(*arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],  # noqa: S607 - the user's own git
            check=False,
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
