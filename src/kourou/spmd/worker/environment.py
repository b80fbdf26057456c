"""The environment of workers: what is copied, and what the user adds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from kourou.runtime.node_environment import COPIED_VARIABLES, as_variables, matching_variables
from kourou.spmd.worker.env_file import read_env_file

DEFAULT_ENV_VARS_FOR_COPY = (*COPIED_VARIABLES, "PATH", "LIBRARY_PATH", "CUDA*")
"""Patterns of the launcher's variables that workers on other hosts get as well; those of this host inherit all.
They are those of nodes on other hosts, and what torchrunx copies besides."""


def user_variables(
    environ: Mapping[str, str],
    *,
    copy: Iterable[str],
    extra: Mapping[str, str] | None,
    env_file: str | os.PathLike[str] | None,
) -> dict[str, str]:
    """What the user wants every worker to have; the file counts most, then ``extra``, then what is copied.

    Raises:
        OSError, ValueError: the file cannot be read, or is none; or a variable cannot be one.
    """
    variables = matching_variables(environ, copy)
    variables.update(as_variables(extra or {}))
    if env_file is not None:
        variables.update(read_env_file(env_file, {**environ, **variables}))
    return variables
