"""Variables of the environments that processes are given: what they may be, and which travel to other hosts."""

from __future__ import annotations

import fnmatch
import numbers
import os
from collections.abc import Iterable, Mapping
from typing import Any

COPIED_VARIABLES = ("PYTHON*", "LD_LIBRARY*", "TORCH*", "PYTORCH*", "NCCL*", "OMP_*", "MKL_*", "HF_*")
"""Patterns of the launcher's variables that nodes on other hosts get as well."""


def matching_variables(environ: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """The variables whose names match one of the patterns, which are the shell's."""
    wanted = tuple(patterns)
    return {
        name: value for name, value in environ.items() if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)
    }


def as_variables(given: Mapping[Any, Any]) -> dict[str, str]:
    """What is given as environment variables as an environment has them: numbers and paths are texts there.

    Raises:
        ValueError: a name or value that no environment can hold, or that is no text.
    """
    variables: dict[str, str] = {}
    for name, value in given.items():
        as_text = os.fspath(value) if isinstance(value, os.PathLike) else value
        if isinstance(as_text, numbers.Real):
            as_text = str(as_text)
        texts = isinstance(name, str) and isinstance(as_text, str)
        if not texts or not name or "=" in name or "\0" in name + as_text:
            raise ValueError(f"{name!r}={value!r} cannot be an environment variable")
        variables[name] = str.__str__(as_text)  # of a member of an enumeration of texts, its value
    return variables
