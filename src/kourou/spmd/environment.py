"""The environment of workers: what is copied, what the user adds, and what tells a worker its place."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Mapping

from kourou.spmd.env_file import read_env_file
from kourou.spmd.places import Place, Rendezvous

__all__ = ["DEFAULT_ENV_VARS_FOR_COPY", "place_variables", "user_variables"]

DEFAULT_ENV_VARS_FOR_COPY = (
    "PATH",
    "LD_LIBRARY*",
    "LIBRARY_PATH",
    "PYTHON*",
    "CUDA*",
    "TORCH*",
    "PYTORCH*",
    "NCCL*",
)
"""Patterns of the launcher's variables that workers on other hosts get as well; those of this host inherit all."""


def user_variables(
    environ: Mapping[str, str],
    *,
    copy: Iterable[str],
    extra: Mapping[str, str] | None,
    env_file: str | os.PathLike[str] | None,
) -> dict[str, str]:
    """What the user wants every worker to have; the file counts most, then ``extra``, then what is copied.

    Args:
        environ: the launcher's environment.
        copy: patterns of names, as the shell's.
        extra: names and values.
        env_file: read by :mod:`kourou.spmd.env_file`.

    Raises:
        OSError, ValueError: the file cannot be read, or is none.
    """
    patterns = tuple(copy)
    variables = {
        name: value
        for name, value in environ.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }
    variables.update(extra or {})
    if env_file is not None:
        variables.update(read_env_file(env_file, {**environ, **variables}))
    return variables


def place_variables(place: Place, rendezvous: Rendezvous) -> dict[str, str]:
    """What torch, and all that knows torchrun, reads to find out where it is."""
    return {
        "RANK": str(place.rank),
        "LOCAL_RANK": str(place.local_rank),
        "GROUP_RANK": str(place.group_rank),
        "ROLE_RANK": str(place.rank),
        "LOCAL_WORLD_SIZE": str(place.local_world_size),
        "WORLD_SIZE": str(place.world_size),
        "GROUP_WORLD_SIZE": str(place.group_world_size),
        "ROLE_WORLD_SIZE": str(place.world_size),
        "MASTER_ADDR": rendezvous.address,
        "MASTER_PORT": str(rendezvous.port),
    }
