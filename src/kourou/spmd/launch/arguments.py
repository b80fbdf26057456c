"""A Launcher from the command line, with argparse; tyro and its like take the dataclass itself."""

from __future__ import annotations

import argparse
from typing import Any

from kourou.spmd.launch.launcher import Launcher

_GROUP = "launcher"
_BACKENDS = ("auto", "nccl", "gloo", "mpi", "ucc", "none")
_PREFIX = "launcher_"


def add_launcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one option for each field of :class:`Launcher`. None has to be given: a Launcher has a default for each."""
    group = parser.add_argument_group(_GROUP, "how many processes on which hosts")

    def add(flag: str, text: str, unit: str = "", **options: Any) -> None:
        field = flag[2:].replace("-", "_") + unit
        group.add_argument(flag, dest=_PREFIX + field, default=None, help=text, **options)

    add("--hostnames", "names, or 'auto', or 'slurm'", nargs="+", metavar="HOST")
    add("--workers-per-host", "a number, one for each host, 'cpu' or 'gpu'", nargs="+", metavar="N")
    add("--ssh-config-file", "for ssh", metavar="FILE")
    add("--backend", "of the process group", choices=_BACKENDS)
    add("--worker-timeout", "of the process group, in seconds", unit="_s", type=float, metavar="S")
    add("--agent-timeout", "for hosts to answer, in seconds", unit="_s", type=float, metavar="S")
    add("--copy-env-vars", "patterns of variables that other hosts get", nargs="+", metavar="PATTERN")
    add("--extra-env-vars", "variables of all workers", nargs="*", metavar="NAME=VALUE", type=_assignment)
    add("--env-file", "more of them", metavar="FILE")
    add("--retries", "after failures that the function did not raise", type=int, metavar="N")
    add("--gpus-per-worker", "GPUs that are each worker's own", type=int, metavar="N")
    add("--sync", "copies the working folder to other hosts", choices=["rsync"])


def launcher_from_args(args: argparse.Namespace) -> Launcher:
    """The Launcher that the options of a command line describe.

    Raises:
        ValueError: ``--workers-per-host`` is none.
    """
    given = {name[len(_PREFIX) :]: value for name, value in vars(args).items() if name.startswith(_PREFIX)}
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("hostnames") in (["auto"], ["slurm"]):
        (given["hostnames"],) = given["hostnames"]
    if "workers_per_host" in given:
        given["workers_per_host"] = _workers(given["workers_per_host"])
    if "copy_env_vars" in given:
        given["copy_env_vars"] = tuple(given["copy_env_vars"])
    if "extra_env_vars" in given:
        given["extra_env_vars"] = dict(given["extra_env_vars"])
    if given.get("backend") == "none":
        given["backend"] = None
    return Launcher(**given)


def _workers(words: list[str]) -> Any:
    if words in (["cpu"], ["gpu"]):
        return words[0]
    if not all(word.isdecimal() for word in words):
        raise ValueError(f"--workers-per-host takes numbers, 'cpu' or 'gpu', not {' '.join(words)}")
    counts = [int(word) for word in words]
    return counts[0] if len(counts) == 1 else counts


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE")
    return name, value
