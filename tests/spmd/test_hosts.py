"""Which hosts and how many workers are meant."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from kourou.runtime.host_agent.addresses import is_this_machine
from kourou.runtime.model.inventory import Inventory
from kourou.spmd.hosts.places import Host, assign_ranks
from kourou.spmd.hosts.resolve import resolve_hostnames, resolve_hosts
from optional import pytest


def test_auto_is_this_machine_outside_of_slurm() -> None:
    assert resolve_hostnames("auto", {}) == ["localhost"]


@pytest.mark.parametrize("variable", ["SLURM_JOB_ID", "SLURM_JOBID"])
@pytest.mark.parametrize("hostnames", ["auto", "slurm"])
def test_slurm_is_asked_for_its_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, hostnames: Any
) -> None:
    # Given a scontrol, in a folder with a hostile name
    folder = tmp_path / "a b;'c"
    folder.mkdir()
    scontrol = folder / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames" ] && printf "n1\\nn2\\n"\n', encoding="utf-8")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    # Then
    assert resolve_hostnames(hostnames, {variable: "7"}) == ["n1", "n2"]


def test_slurm_outside_of_a_job_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="Not in a SLURM job"):
        resolve_hostnames("slurm", {})


def test_a_scontrol_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\necho no controller >&2; exit 1\n", encoding="utf-8")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(RuntimeError, match="no controller"):
        resolve_hostnames("slurm", {"SLURM_JOB_ID": "7"})


@pytest.mark.parametrize("hostnames", ["node1", [], [""], ["a", "b", "a"], [1]])
def test_names_that_are_none_are_refused(hostnames: Any) -> None:
    with pytest.raises(ValueError, match="hostnames"):
        resolve_hostnames(hostnames, {})


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, [1], [1, 2, 3], [1, 0], "tpu"])
def test_numbers_that_are_none_are_refused(workers: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        resolve_hosts(["127.0.0.1", "127.0.0.2"], workers)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "127.0.0.9", "::1"])
def test_loopback_addresses_are_this_machine(name: str) -> None:
    assert is_this_machine(name)


@pytest.mark.parametrize("name", ["192.0.2.1", "no-such-host.invalid"])
def test_other_names_are_not(name: str) -> None:
    assert not is_this_machine(name)


def test_its_own_name_is_this_machine_where_it_resolves() -> None:
    try:
        socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        pytest.skip("this machine's name is in no DNS")
    assert is_this_machine(socket.gethostname())


def test_cpu_means_one_worker_for_each_cpu_that_may_be_used() -> None:
    (host,) = resolve_hosts("auto" if "SLURM_JOB_ID" not in os.environ else ["localhost"], "cpu")
    assert host.workers == len(Inventory.of_this_process().cpus)


def test_gpu_without_gpus_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RuntimeError, match=r"no GPUs detected on: \['localhost'\].*gloo"):
        resolve_hosts(["localhost"], "gpu")


def test_ranks_count_through_the_hosts_in_their_order() -> None:
    places = assign_ranks([Host(name="a", workers=2, local=True), Host(name="b", workers=1, local=True)])
    shown = [(p.hostname, p.rank, p.local_rank, p.group_rank, p.local_world_size, p.world_size) for p in places]
    assert shown == [("a", 0, 0, 0, 2, 3), ("a", 1, 1, 0, 2, 3), ("b", 2, 0, 1, 1, 3)]
