"""Where a program runs, and what says so."""

from __future__ import annotations

import enum
import os
from typing import TYPE_CHECKING

from kourou import errors
from kourou.runtime.plan import absl_flags
from kourou.shown import shown

if TYPE_CHECKING:
    from kourou.runtime.model.engines import EngineOptions


class LaunchType(str, enum.Enum):
    """Where a program runs."""

    LOCAL_MULTI_THREADING = "local_mt"
    """Every node is a thread of this process; the default, and the one for a debugger."""
    LOCAL_MULTI_PROCESSING = "local_mp"
    """Every node is a process of this host."""
    TEST_MULTI_THREADING = "test_mt"
    """As local_mt, and checks that every node could be pickled."""
    TEST_MULTI_PROCESSING = "test_mp"
    """As local_mp, for tests."""
    SSH = "ssh"
    """Every node is a process of one of several hosts, which are reached over ssh."""
    SLURM = "slurm"
    """Every node is a process of one of the hosts that Slurm allocates."""
    RAY = "ray"
    """Every node is a process of one of the hosts that are bundles of a placement group of Ray's."""
    KUBERNETES = "kubernetes"
    """Every node is a process of one of the hosts that are pods of Kubernetes."""
    TEST_ENGINE = "test_engine"
    """As on an engine, whose hosts are agents on this host; for tests."""

    @property
    def threads(self) -> bool:
        """True where nodes are threads of the launcher."""
        return self in {LaunchType.LOCAL_MULTI_THREADING, LaunchType.TEST_MULTI_THREADING}

    @property
    def hosts(self) -> bool:
        """True where nodes run on several hosts."""
        return self not in _ONE_HOST

    @property
    def engine(self) -> bool:
        """True where an engine allocates the hosts."""
        return self.hosts and self is not LaunchType.SSH

    @property
    def test(self) -> bool:
        """True for the two that tests use."""
        return self in {LaunchType.TEST_MULTI_THREADING, LaunchType.TEST_MULTI_PROCESSING}

    def __str__(self) -> str:
        return self.value


_ONE_HOST = frozenset(
    {
        LaunchType.LOCAL_MULTI_THREADING,
        LaunchType.LOCAL_MULTI_PROCESSING,
        LaunchType.TEST_MULTI_THREADING,
        LaunchType.TEST_MULTI_PROCESSING,
    }
)


def is_local_launch(launch_type: LaunchType | str) -> bool:
    """True for local_mt and local_mp."""
    return str(launch_type) in {"local_mt", "local_mp"}


def is_local_launch_or_test(launch_type: LaunchType | str) -> bool:
    """True for local_mt, local_mp, test_mt and test_mp."""
    return str(launch_type) in {"local_mt", "local_mp", "test_mt", "test_mp"}


def launch_type_from(value: LaunchType | EngineOptions | str | None) -> LaunchType:
    """The launch type meant by an argument, ``--lp_launch_type``, KOUROU_LAUNCH_TYPE, or the default.

    Raises:
        PlanError: there is no such launch type.
    """
    source = "launch_type"
    if value is not None and not isinstance(value, str):
        from kourou.runtime.model.engines import EngineOptions  # noqa: PLC0415 - who has some has imported it

        value = value.launch_type if isinstance(value, EngineOptions) else value
    if value is None:
        value, source = absl_flags.given_launch_type(), f"--{absl_flags.LAUNCH_TYPE}"
    if value is None:
        value, source = os.environ.get("KOUROU_LAUNCH_TYPE") or LaunchType.LOCAL_MULTI_THREADING, "KOUROU_LAUNCH_TYPE"
    known = {kind.value: kind for kind in LaunchType}
    if not isinstance(value, str) or value not in known:
        raise errors.PlanError(f"{source}={shown(value)} is not a launch type; known are {', '.join(known)}")
    return known[value]
