"""The environment of a node: where its variables come from, and which of them have the last word."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

from kourou.runtime.node_environment import (
    COOKIE,
    as_variables,
    complete,
    gpus_of,
    matching_variables,
    owner_variables,
    with_devices,
)
from optional import pytest


def test_what_the_user_gave_goes_over_what_is_inherited_and_devices_over_both():
    # given
    inherited = {"HOME": "/home", "RATE": "1", "MKL_NUM_THREADS": "9", "CUDA_VISIBLE_DEVICES": "7"}
    given = as_variables({"RATE": 2, "OMP_NUM_THREADS": 1})

    # when
    own = with_devices(given, threads=4, gpus=("0", "1"), inherited=inherited)
    whole = complete(inherited, own.items(), "run:a/0:1:")

    # then
    assert own == {
        "RATE": "2",
        "OMP_NUM_THREADS": "1",  # the user's
        "OPENBLAS_NUM_THREADS": "4",
        "NUMEXPR_NUM_THREADS": "4",
        "CUDA_VISIBLE_DEVICES": "0,1",
    }
    assert whole == {**inherited, **own, COOKIE: "run:a/0:1:"}


@pytest.mark.parametrize(
    ("env", "gpus"),
    [({}, None), ({"CUDA_VISIBLE_DEVICES": ""}, ()), ({"CUDA_VISIBLE_DEVICES": "0,GPU-1"}, ("0", "GPU-1"))],
)
def test_which_gpus_are_seen_is_none_where_nobody_said(env: dict[str, str], gpus: tuple[str, ...] | None):
    assert gpus_of(env) == gpus
    assert with_devices({}, None, gpus) == env


def test_other_hosts_get_the_variables_that_match():
    environ = {"NCCL_DEBUG": "1", "nccl_debug": "2", "PATH": "3", "XNCCL": "4"}
    assert matching_variables(environ, ("NCCL*", "PATH")) == {"NCCL_DEBUG": "1", "PATH": "3"}


def test_numbers_paths_and_enumerations_are_texts():
    class Kind(str, enum.Enum):
        FAST = "fast"

    given = {"A": 1, "B": 0.5, "C": Path("/c"), "D": Kind.FAST}
    assert as_variables(given) == {"A": "1", "B": "0.5", "C": "/c", "D": "fast"}


@pytest.mark.parametrize("given", [{"": "1"}, {"A=B": "1"}, {"A": "x\0"}, {"A": None}, {1: "1"}])
def test_what_no_environment_can_hold_is_named(given: dict[Any, Any]):
    with pytest.raises(ValueError, match="cannot be an environment variable"):
        as_variables(given)


def test_a_nodes_children_are_told_whose_metrics_theirs_are():
    assert owner_variables("actor/0", "/runs/a") == {"KOUROU_RUN_DIR": "/runs/a", "KOUROU_NODE": "actor/0"}
