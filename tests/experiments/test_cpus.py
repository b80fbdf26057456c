"""Codes on CPUs that this process may use: subsets, other numberings, too few."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kourou.experiments.rlpyt.affinity import Affinity, affinity_from_code
from kourou.experiments.rlpyt.cpus import Core, available_cores, fit_affinity
from kourou.runtime.model.inventory import Inventory


def cores(*threads: tuple[int, ...]) -> list[Core]:
    return [Core(threads=each) for each in threads]


def fitted(code: str, *threads: tuple[int, ...]) -> Affinity:
    affinity = fit_affinity(code, cores=cores(*threads))
    assert isinstance(affinity, Affinity)
    return affinity


def topology(folder: Path, *, sockets: dict[int, int], siblings: dict[int, str]) -> Path:
    for cpu, socket in sockets.items():
        place = folder / f"cpu{cpu}" / "topology"
        place.mkdir(parents=True)
        (place / "physical_package_id").write_text(f"{socket}\n", encoding="ascii")
        (place / "thread_siblings_list").write_text(f"{siblings[cpu]}\n", encoding="ascii")
    return folder


def test_a_whole_machine_keeps_the_codes_numbers() -> None:
    for slot in ("0slt_4cpu_2gpu", "1slt_4cpu_2gpu"):
        assert fitted(slot, (0, 4), (1, 5), (2, 6), (3, 7)) == affinity_from_code(slot)


def test_a_subset_is_used_in_order_and_slots_stay_apart() -> None:
    allowed = [(9,), (11,), (20,), (21,)]
    first, second = (fitted(f"{slot}slt_4cpu_2gpu_0hto", *allowed) for slot in (0, 1))
    assert (first.all_cpus, first.cuda_idx) == ((9, 11), 0)
    assert (second.workers_cpus, second.cuda_idx) == (((20,), (21,)), 1)


def test_threads_numbered_side_by_side() -> None:
    affinity = fitted("1slt_2cpu_2gpu", (0, 1), (2, 3))
    assert affinity.workers_cpus == ((2, 3),)


def test_second_threads_that_may_not_be_used_are_left_out() -> None:
    affinity = fitted("0slt_2cpu_1gpu", (4,), (5,))
    assert (affinity.all_cpus, affinity.workers_cpus) == ((4, 5), ((4,), (5,)))


def test_alternating_workers_then_share_the_first_thread() -> None:
    affinity = fitted("0slt_2cpu_1gpu_1alt", (4,), (5,))
    assert affinity.workers_cpus == ((4,), (5,), (4,), (5,))


def test_all_parts_of_an_asynchronous_run_are_mapped() -> None:
    affinity = fitted("0slt_4cpu_2gpu_0hto_1ass_1sgr", (10,), (11,), (12,), (13,))
    assert affinity.optimizer[0].cpus == (10,)
    assert affinity.sampler[0].workers_cpus == ((11,), (12,), (13,))
    assert affinity.all_cpus == (10, 11, 12, 13)


def test_each_gpu_of_a_run_is_mapped() -> None:
    parts = fit_affinity("0slt_2cpu_2gpu_2gpr_0hto", cores=cores((6,), (7,)))
    assert isinstance(parts, list)
    assert [part.all_cpus for part in parts] == [(6,), (7,)]


@pytest.mark.parametrize("code", ["0slt_8cpu_2gpu", "0slt_8cpu_2gpu_0hto"])
def test_too_few_cores_are_counted(code: str) -> None:
    with pytest.raises(ValueError, match=r"uses 8 cores, but this process may use 2 \(CPUs 4, 5\)"):
        fit_affinity(code, cores=cores((4,), (5,)))


def test_cores_are_read_from_the_system(tmp_path: Path) -> None:
    # given two sockets whose cores' threads are numbered side by side
    sysfs = topology(tmp_path, sockets={0: 1, 1: 1, 2: 0, 3: 0}, siblings={0: "0-1", 1: "0-1", 2: "2,3", 3: "2,3"})
    # when one thread may not be used
    found = available_cores(Inventory(cpus=(0, 1, 3)), sysfs=sysfs)
    # then cores come socket by socket, with what is left of them
    assert found == (Core(threads=(3,), socket=0), Core(threads=(0, 1), socket=1))


def test_a_system_that_tells_nothing_has_cores_of_one_thread(tmp_path: Path) -> None:
    assert available_cores(Inventory(cpus=(2, 5)), sysfs=tmp_path) == (Core(threads=(2,)), Core(threads=(5,)))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes")
def test_the_kernel_takes_what_this_process_gets() -> None:
    # given a code for one core, on the CPUs that this process may really use
    affinity = fit_affinity("0slt_1cpu_0gpu_1cpr_0hto")
    assert isinstance(affinity, Affinity)
    before = os.sched_getaffinity(0)
    # when this process is pinned there, the kernel agrees
    os.sched_setaffinity(0, affinity.all_cpus)
    try:
        assert os.sched_getaffinity(0) == set(affinity.all_cpus)
    finally:
        os.sched_setaffinity(0, before)


def test_a_core_has_a_thread() -> None:
    with pytest.raises(ValueError, match="at least one CPU"):
        Core(threads=())
