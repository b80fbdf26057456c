"""Hosts for tests: real sshd daemons, each with an address, a name and a network of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kourou as lp
from polling import WAIT_S, all_gone
from spmd.machines import Machines
from ssh.looking import agents

LOST_AFTER_S = 4.0


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Three hosts."""
    with Machines(tmp_path_factory.mktemp("machines")).up() as three:
        yield three


@pytest.fixture
def hosts(machines: Machines) -> Callable[..., lp.Hosts]:
    """Makes what ``lp.launch`` takes, of all three or of some."""

    def make(*names: str | lp.Host, **options: Any) -> lp.Hosts:
        options = {"ssh_config": machines.ssh_config, "connect_timeout_s": 30.0, **options}
        marks = (*lp.Hosts(["m1"]).copy_env_vars, "KOUROU_RUNS_DIR")  # so that no_leaks finds what is left
        return lp.Hosts(names or machines.names, copy_env_vars=marks, **options)

    return make


@pytest.fixture(autouse=True)
def _no_agent_is_left() -> Iterator[None]:
    yield
    left = agents()
    if left:
        all_gone(left, WAIT_S)
