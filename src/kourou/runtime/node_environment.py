"""The environment of a node: the variables that its process gets, where they come from, and which has the last word.

From the first to the last, each over those before:

1. its launcher's own; on another host those of its agent, which ``matching_variables`` of the launcher's are added to,
2. ``thread_counts``, where it was given CPUs and the launcher has not set them,
3. what the user gave its label (``PythonProcess.env``), as ``as_variables`` has it,
4. ``CUDA_VISIBLE_DEVICES``, where it was given GPUs (``with_devices``),
5. the cookie by which all that it starts is found again (``complete``),
6. what modules set that its zygote imported for it (``process.preload``),
7. whose metrics those of its children are (``owner_variables``),
8. in ranks, where they are among others (``kourou.nodes.ranks``).

1 to 4 are known beforehand, and ``kourou plan`` shows 2 to 4. Runs of sweeps, which are started in the same way, get
``KOUROU_SEED`` and the like in place of 3, and then what their sweep's file says. Pure.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

COPIED_VARIABLES = ("PYTHON*", "LD_LIBRARY*", "TORCH*", "PYTORCH*", "NCCL*", "OMP_*", "MKL_*", "HF_*")
"""Patterns of the launcher's variables that nodes on other hosts get as well."""
RUN_DIR_VARIABLE = "KOUROU_RUN_DIR"
"""Tells a run its folder, and what a node's process starts, where its metrics go."""
RUN_ATTEMPT_VARIABLE = "KOUROU_RUN_ATTEMPT"
"""How often the run was started, this time included."""
NODE_VARIABLE = "KOUROU_NODE"
"""The node."""
COOKIE = "KOUROU_COOKIE"
"""Inherited by every process of a node; ``process.process_table`` makes its value."""
SIGNALLED_VARIABLE = "KOUROU_SIGNALLED"
"""Set by a batch job's script, for what it executes last, where the signal came while the script itself ran."""

_GPUS = "CUDA_VISIBLE_DEVICES"
# Read by OpenMP (torch too), MKL, OpenBLAS and NumExpr; more threads than CPUs make all of them slower.
_THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def matching_variables(environ: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """The variables whose names match one of the patterns, which are the shell's."""
    import fnmatch  # noqa: PLC0415 - zygotes, which know this module, need no regular expressions

    wanted = tuple(patterns)
    return {name: value for name, value in environ.items() if any(fnmatch.fnmatchcase(name, each) for each in wanted)}


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


def thread_counts(threads: int, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables by which libraries start so many threads, but for those that are inherited."""
    return {name: str(threads) for name in _THREAD_COUNTS if name not in inherited}


def with_devices(
    env: Mapping[str, str],
    threads: int | None,
    gpus: Sequence[str] | None,
    inherited: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Variables, and those that go with so many CPUs and with these GPUs; None: it was given none of that kind."""
    counts = {} if threads is None else thread_counts(threads, inherited)
    return {**counts, **env, **({} if gpus is None else {_GPUS: ",".join(gpus)})}


def gpus_of(env: Mapping[str, str]) -> tuple[str, ...] | None:
    """The GPUs that variables name; None: they do not say."""
    named = env.get(_GPUS)
    return None if named is None else tuple(filter(None, named.split(",")))


def complete(inherited: Mapping[str, str], own: Iterable[tuple[str, str]], cookie: str) -> dict[str, str]:
    """All that a process starts with."""
    return {**inherited, **dict(own), COOKIE: cookie}


def owner_variables(name: str, metrics_dir: str) -> dict[str, str]:
    """For what a node starts: commands, and processes that know of no program."""
    # The name is UTF-8 also where the locale knows ASCII only.
    return {RUN_DIR_VARIABLE: metrics_dir, NODE_VARIABLE: os.fsdecode(name.encode())}
