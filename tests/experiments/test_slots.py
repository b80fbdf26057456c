"""Places for runs: GPUs within the launcher's mask, CPUs that no two runs share."""

from __future__ import annotations

import pytest

from kourou import errors
from kourou.experiments.sweep.slots import Share, SlotPool, make_slots
from kourou.runtime.model.inventory import Inventory

MACHINE = Inventory(cpus=(2, 3, 6, 7), gpus=("2", "GPU-a", "MIG-b/1"))


def test_nothing_said_there_is_a_place_for_each_cpu_and_gpus_are_left_alone() -> None:
    slots = make_slots(Share(), MACHINE)
    assert [(slot.gpus, slot.cpus, slot.threads) for slot in slots] == [(None, None, 1)] * 4


def test_runs_that_share_the_cpus_count_on_their_fair_part() -> None:
    assert [slot.threads for slot in make_slots(Share(parallel=2), MACHINE)] == [2, 2]


def test_several_runs_share_a_gpu_of_the_mask() -> None:
    slots = make_slots(Share(runs_per_gpu=2, gpus=2), MACHINE)
    assert [slot.gpus for slot in slots] == [("2",), ("GPU-a",), ("2",), ("GPU-a",)]


def test_a_run_with_several_gpus_has_them_for_itself() -> None:
    assert [slot.gpus for slot in make_slots(Share(gpus_per_run=2), MACHINE)] == [("2", "GPU-a")]


def test_cpus_of_places_are_disjoint_and_within_the_affinity() -> None:
    slots = make_slots(Share(cpus_per_run=2, runs_per_gpu=1), MACHINE)
    assert [(slot.cpus, slot.gpus) for slot in slots] == [((2, 3), ("2",)), ((6, 7), ("GPU-a",))]


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (Share(gpus_per_run=4), "4 GPUs are asked for, but the launcher may use 3 \\(2, GPU-a, MIG-b/1\\)"),
        (Share(runs_per_gpu=1, gpus=5), "5 GPUs are asked for"),
        (Share(cpus_per_run=2, parallel=3), "3 runs at once on 2 CPUs each need 6, but the launcher may use 4"),
    ],
)
def test_more_than_there_is_is_refused(share: Share, message: str) -> None:
    with pytest.raises(errors.PlanError, match=message):
        make_slots(share, MACHINE)


def test_numbers_that_mean_nothing_are_refused() -> None:
    with pytest.raises(errors.PlanError, match="parallel is a whole number"):
        Share(parallel=0)
    with pytest.raises(errors.PlanError, match="not both"):
        Share(runs_per_gpu=1, gpus_per_run=1)


def test_gpus_are_filled_evenly_the_lowest_first() -> None:
    pool = SlotPool(make_slots(Share(runs_per_gpu=2, gpus=2), MACHINE))
    taken = [pool.acquire() for _ in range(4)]
    assert [slot.gpus for slot in taken] == [("2",), ("GPU-a",), ("2",), ("GPU-a",)]
    assert not pool.has_room
    # when the second GPU has room again, it is the one that is used
    pool.release(taken[3])
    assert pool.acquire() == taken[3]


def test_a_pool_gives_no_more_than_runs_at_once() -> None:
    pool = SlotPool(make_slots(Share(runs_per_gpu=2), MACHINE), parallel=2)
    first = pool.acquire()
    pool.acquire()
    assert not pool.has_room
    pool.release(first)
    assert pool.has_room
